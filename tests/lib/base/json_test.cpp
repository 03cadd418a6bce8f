#include "base/json.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"

using namespace hone;

namespace {

std::string nested(int depth) {
  return std::string(static_cast<size_t>(depth), '[') + std::string(static_cast<size_t>(depth), ']');
}

std::string problem_of(const std::string& text, const JsonLimits& limits = {}) {
  std::string problem;
  const bool none = parse_json(text, &problem, limits).is_discarded();
  CHECK(none == !problem.empty());
  CHECK(parse_json(text, nullptr, limits).is_discarded() == !problem.empty());
  return problem;
}

}  // namespace

TEST_CASE("JSON is read up to a depth, and what is deeper or none is told with its line") {
  CHECK(parse_json(R"({"a": [1, "x\"[", {}]})")["a"][1] == "x\"[");
  CHECK(problem_of(nested(deepest_json)).empty());
  CHECK(problem_of(nested(deepest_json + 1)) == "is nested more than 64 levels deep");
  CHECK(problem_of("{\"a\":\n" + nested(deepest_json) + "}") == "is nested more than 64 levels deep (line 2)");
  CHECK(problem_of("[\"" + std::string(70, '[') + "\\\"" + std::string(70, '{') + "\"]").empty());  // a string alone
  CHECK(problem_of(nested(3), {.depth = 2}) == "is nested more than 2 levels deep");
  CHECK(problem_of("[1,\n2,\nx]") == "is not JSON (line 3)");
  for (const char* text : {"", "{", "]", "[1] [2]", "\"\xff\"", "[1e999]", "\"open"}) {
    CAPTURE(text);
    CHECK(problem_of(text) == "is not JSON");
  }
}

TEST_CASE("values of JSON are counted before any is made") {
  CHECK(problem_of("[1, 2, 3]", {.values = 3}) == "has more than 3 values");
  CHECK(problem_of("[1, 2, 3]", {.values = 4}).empty());
  CHECK(problem_of("[\"1, 2, 3, 4, 5\"]", {.values = 3}).empty());
  CHECK(problem_of("[1,\n2, 3]", {.values = 3}) == "has more than 3 values (line 2)");
}

TEST_CASE("JSON that is required is named where it is none") {
  CHECK(require_json("[1]", "it") == nlohmann::json({1}));
  try {
    require_json("{\n]", "'a.json'");
    FAIL("it was taken");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    CHECK(std::string(error.what()) == "'a.json' is not JSON (line 2)");
  }
}
