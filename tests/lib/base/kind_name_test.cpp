#include "base/kind_name.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "base/error.h"

using namespace hone;

TEST_CASE("a kind's name has the numbers of its form") {
  const std::string form = "window:SIZE[:SINKS]";
  CHECK(first_word(form) == "window");
  CHECK(first_word("ngram[:N]") == "ngram");
  CHECK(first_word("full") == "full");
  CHECK(numbers_of("attention", "window:512", form) == std::vector<int64_t>{512});
  CHECK(numbers_of("attention", "window:512:0", form) == std::vector<int64_t>{512, 0});
  CHECK(numbers_of("draft", "ngram", "ngram[:N]").empty());
  CHECK_THROWS_WITH_AS(numbers_of("attention", "window:x", form),
                       "attention 'window:x': 'x' is not a whole number; write window:SIZE[:SINKS]", Error);
  CHECK_THROWS_WITH_AS(numbers_of("draft", "self", "self:LAYERS"), "draft 'self' has 0 numbers; write self:LAYERS",
                       Error);
  for (const char* large : {"2147483648", "99999999999", "99999999999999999999999"}) {
    CAPTURE(large);
    CHECK_THROWS_WITH_AS(
        numbers_of("attention", std::string("window:") + large, form),
        (std::string("attention 'window:") + large + "': " + large + " is too large: at most 2147483647").c_str(),
        Error);
  }
  CHECK(numbers_of("attention", "window:2147483647", form) == std::vector<int64_t>{2147483647});
  for (const char* name : {"window:", "window:-1", "window:1:2:3", "window::2", "window:-99999999999999999999"})
    CHECK_THROWS_AS(numbers_of("attention", name, form), Error);
}

TEST_CASE("a name that is not known is told with those that are, and the nearest of them") {
  const std::vector<std::string> forms = {"full", "window:SIZE[:SINKS]", "routed:BLOCK:COUNT[:WINDOW]"};
  const Error slip = unknown_name("kind of attention", "windw:64", forms);
  CHECK(slip.kind() == ErrorKind::usage);
  CHECK(std::string(slip.what()) ==
        "unknown kind of attention 'windw:64'; known: full, window:SIZE[:SINKS], routed:BLOCK:COUNT[:WINDOW]; did you "
        "mean 'window'?");
  CHECK(std::string(unknown_name("form", "x", std::vector<std::string>{"a", "b"}).what()) ==
        "unknown form 'x'; known: a, b");
}
