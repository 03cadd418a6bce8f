#include "base/error.h"

#include <doctest/doctest.h>

#include <string>

using namespace hone;

TEST_CASE("each kind of error is its exit status") {
  CHECK(usage_error("x").exit_status() == 2);
  CHECK(input_error("x").exit_status() == 3);
  CHECK(internal_error("x").exit_status() == 1);
  CHECK(Error(ErrorKind::requirement, "x").exit_status() == 4);
  CHECK(Error(ErrorKind::diverged, "x").exit_status() == 5);
}

TEST_CASE("an error carries its formatted message through std::exception") {
  try {
    throw input_error("'{}': line {}: {}", "a.txt", 3, "not UTF-8");
  } catch (const std::exception& error) {
    CHECK(std::string(error.what()) == "'a.txt': line 3: not UTF-8");
  }
}
