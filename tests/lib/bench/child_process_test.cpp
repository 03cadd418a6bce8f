#include "bench/child_process.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "kernels/parallel.h"

using namespace hone;

TEST_CASE("what a process of its own returns keeps its bits") {
  const double odd = std::nextafter(0.1, 1);
  const nlohmann::json answer = in_child("work", 1, [&] {
    return nlohmann::json{{"pid", getpid()}, {"odd", odd}, {"nan", std::nan("")}, {"threads", kernels::threads()}};
  });
  CHECK(answer["pid"].get<int>() != getpid());
  CHECK(std::bit_cast<uint64_t>(answer["odd"].get<double>()) == std::bit_cast<uint64_t>(odd));
  CHECK(std::isnan(answer["nan"].get<double>()));
  CHECK(answer["threads"].get<int>() == 1);
}

TEST_CASE("an error there is the same error here, and an end without an answer names the signal") {
  try {
    in_child("work", 1, []() -> nlohmann::json { throw input_error("'x' is damaged"); });
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    CHECK(std::string(error.what()) == "'x' is damaged");
  }
  try {
    in_child("scoring 'x'", 1, []() -> nlohmann::json {
      raise(SIGKILL);
      return 1;
    });
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.exit_status() == 128 + SIGKILL);
    CHECK(std::string(error.what()).starts_with("scoring 'x': its process was ended by signal 9"));
  }
}
