#include "base/log.h"

#include <doctest/doctest.h>

#include "base/error.h"

using namespace hone;

TEST_CASE("log levels go by name, and an unknown one is a usage error that lists them") {
  CHECK(log_level_named("error") == LogLevel::error);
  CHECK(log_level_named("debug") == LogLevel::debug);
  try {
    log_level_named("loud");
    FAIL("nothing was thrown");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
    CHECK(std::string(error.what()) == "unknown log level 'loud'; use error, warning, info or debug");
  }
}
