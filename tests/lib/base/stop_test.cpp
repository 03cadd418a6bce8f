#include "base/stop.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>

using namespace hone;

namespace {

struct DefaultHandlers {
  ~DefaultHandlers() {
    raise_stop(0);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, SIG_DFL);
  }
};

// How a child ends that does `work`.
template <class Work>
int status_of(Work&& work) {
  const pid_t child = fork();
  if (child == 0) {
    work();
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return status;
}

}  // namespace

TEST_CASE("a first signal is noted and the process goes on") {
  const DefaultHandlers after;
  install_stop_handlers();
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    CHECK(stop_signal() == 0);
    REQUIRE(std::raise(signal) == 0);
    CHECK(stop_signal() == signal);
    raise_stop(0);
  }
  CHECK(stop_signal() == 0);
}

// The stack pointer of the interrupted code may be no stack's.
TEST_CASE("handlers run on a stack of their own") {
  const DefaultHandlers after;
  install_stop_handlers();
  stack_t now = {};
  REQUIRE(sigaltstack(nullptr, &now) == 0);
  CHECK((now.ss_flags & SS_DISABLE) == 0);
  CHECK(now.ss_size >= 32 << 10);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction action = {};
    REQUIRE(sigaction(signal, nullptr, &action) == 0);
    CHECK((action.sa_flags & SA_ONSTACK) != 0);
  }
}

TEST_CASE("a second signal ends the process, also another one") {
  for (const int second : {SIGTERM, SIGINT}) {
    const int status = status_of([second] {
      install_stop_handlers();
      std::raise(SIGTERM);
      std::raise(second);
    });
    REQUIRE(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == second);
  }
}

TEST_CASE("under nohup SIGHUP stays ignored") {
  const int status = status_of([] {
    std::signal(SIGHUP, SIG_IGN);
    install_stop_handlers();
    std::raise(SIGHUP);
    if (stop_signal() != 0) _exit(1);
    std::raise(SIGTERM);
    if (stop_signal() != SIGTERM) _exit(2);
  });
  CHECK(status == 0);
}

TEST_CASE("work with nothing to save is left by an exception that says the signal and the status") {
  const DefaultHandlers after;
  CHECK_NOTHROW(check_stop());
  raise_stop(SIGTERM);
  CHECK(stop_wanted());
  {
    const StopLater saving;
    CHECK_NOTHROW(check_stop());
    CHECK_FALSE(stop_wanted());
    CHECK(stop_signal() == SIGTERM);
  }
  try {
    check_stop();
    FAIL("nothing was thrown");
  } catch (const Stopped& stopped) {
    CHECK(stopped.signal() == SIGTERM);
    CHECK(stopped.exit_status() == 143);
    CHECK(std::string(stopped.what()) == "stopped by signal 15 (SIGTERM)");
  }
}
