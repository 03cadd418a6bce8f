#include "serve/stop_text.h"

#include <doctest/doctest.h>

#include "base/error.h"

using namespace hone;

namespace {

// What comes out when `text` goes in a piece of `size` at a time.
std::string through(StopText& stop, const std::string& text, size_t size) {
  std::string out;
  for (size_t i = 0; i < text.size(); i += size) out += stop.push(text.substr(i, size));
  return out + stop.finish();
}

}  // namespace

TEST_CASE("text ends before the first stop string, however it is cut into pieces") {
  for (size_t size = 1; size <= 12; ++size) {
    StopText stop({"END", "\n\n"});
    CHECK(through(stop, "one ENE two\nthree\n\nfour END", size) == "one ENE two\nthree");
    CHECK(stop.found());
  }
}

TEST_CASE("without a stop string all text comes out, in the end also what looked like one") {
  for (size_t size = 1; size <= 8; ++size) {
    StopText stop({"aab"});
    CHECK(through(stop, "aaaaXaaa", size) == "aaaaXaaa");
    CHECK_FALSE(stop.found());
  }
  StopText none({});
  CHECK(none.push("text") == "text");
}

TEST_CASE("text that cannot be part of a stop string is not held back") {
  StopText stop({"stop"});
  CHECK(stop.push("on the way ") == "on the way ");
  CHECK(stop.push("st") == "");
  CHECK(stop.push("art") == "start");
  CHECK(stop.push("s") == "");
  CHECK(stop.push("top and more") == "");
  CHECK(stop.push("never") == "");
  CHECK(stop.finish() == "");
}

TEST_CASE("an empty stop string is refused") {
  CHECK_THROWS_AS(StopText({""}), Error);
}
