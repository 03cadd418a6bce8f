#include "base/stop.h"

#include <fmt/format.h>
#include <poll.h>

#include <atomic>
#include <csignal>
#include <string_view>

namespace hone {
namespace {

std::atomic<int> received{0};  // lock-free, so that a handler may write it
std::atomic<int> later{0};     // how many StopLater live
static_assert(std::atomic<int>::is_always_lock_free);

extern "C" void on_signal(int signal) {
  if (received) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  received = signal;
}

std::string_view name_of(int signal) {
  return signal == SIGINT ? "SIGINT" : signal == SIGTERM ? "SIGTERM" : signal == SIGHUP ? "SIGHUP" : "signal";
}

}  // namespace

Stopped::Stopped(int signal)
    : std::runtime_error(fmt::format("stopped by signal {} ({})", signal, name_of(signal))), signal_(signal) {}

void install_stop_handlers() {
  struct sigaction action = {};
  action.sa_handler = on_signal;  // without SA_RESTART: what waits for a pipe or a child notices
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  struct sigaction before = {};
  if (sigaction(SIGHUP, nullptr, &before) == 0 && before.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
}

int stop_signal() {
  return received;
}

bool stop_wanted() {
  return received != 0 && later == 0;
}

void check_stop() {
  if (stop_wanted()) throw Stopped(received);
}

bool wait_to_read(int fd) {
  while (!stop_wanted()) {
    pollfd ready = {fd, POLLIN, 0};
    if (poll(&ready, 1, 100) > 0) return true;  // a signal just before poll() is seen at the next turn
  }
  return false;
}

void raise_stop(int signal) {
  received = signal;
}

StopLater::StopLater() {
  ++later;
}

StopLater::~StopLater() {
  --later;
}

}  // namespace hone
