#include "base/stop.h"

#include <doctest/doctest.h>

#include <csignal>

using namespace hone;

TEST_CASE("a first SIGTERM is noted and the process goes on") {
  install_stop_handlers();
  CHECK(stop_signal() == 0);
  REQUIRE(std::raise(SIGTERM) == 0);
  CHECK(stop_signal() == SIGTERM);
  raise_stop(0);
  CHECK(stop_signal() == 0);
  std::signal(SIGTERM, SIG_DFL);
  std::signal(SIGINT, SIG_DFL);
}
