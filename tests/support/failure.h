// What a call fails with.
#pragma once

#include <doctest/doctest.h>

#include <string>

#include "base/error.h"

namespace hone::test {

template <class F>
ErrorKind kind_of_failure(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.kind();
  }
  FAIL("nothing was thrown");
  return ErrorKind::internal;
}

// Exit status and message, "3 the file is cut"; "none" where nothing is thrown.
template <class F>
std::string failure(F&& call) {
  try {
    call();
  } catch (const Error& error) {
    return std::to_string(error.exit_status()) + " " + error.what();
  }
  return "none";
}

}  // namespace hone::test
