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

// oneDNN's f32 products with AVX2 have their stack pointer in the middle of the heap for nearly all of their time
// (findings/onednn-stack-pointer-in-the-heap.sh): a handler that ran there would overwrite what lies below. Signals for
// the process go to its main thread, which calls this.
void use_stack_of_its_own() {
  alignas(64) static char memory[1 << 16];  // what the processor's registers take is some 11 KB at most
  stack_t now = {};
  if (sigaltstack(nullptr, &now) != 0 || !(now.ss_flags & SS_DISABLE)) return;  // a sanitizer has set one
  stack_t own = {};
  own.ss_sp = memory;
  own.ss_size = sizeof memory;
  sigaltstack(&own, nullptr);
}

std::string_view name_of(int signal) {
  return signal == SIGINT ? "SIGINT" : signal == SIGTERM ? "SIGTERM" : signal == SIGHUP ? "SIGHUP" : "signal";
}

}  // namespace

Stopped::Stopped(int signal)
    : std::runtime_error(fmt::format("stopped by signal {} ({})", signal, name_of(signal))), signal_(signal) {}

void install_stop_handlers() {
  use_stack_of_its_own();
  struct sigaction action = {};
  action.sa_handler = on_signal;  // without SA_RESTART: what waits for a pipe or a child notices
  action.sa_flags = SA_ONSTACK;
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
