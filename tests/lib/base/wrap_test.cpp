#include "base/wrap.h"

#include <doctest/doctest.h>

using namespace hone;

TEST_CASE("lines break at blanks, count characters and indent what follows") {
  CHECK(wrapped("", 10, 2) == "");
  CHECK(wrapped("one two three", 7, 2) == "one two\n  three");
  CHECK(wrapped("  one   two ", 20, 2) == "one two");
  CHECK(wrapped("\u00e9\u00e9\u00e9 \u00e9\u00e9\u00e9", 7, 0) == "\u00e9\u00e9\u00e9 \u00e9\u00e9\u00e9");
  CHECK(wrapped("a pneumonoultramicroscopic b", 6, 1) == "a\n pneumonoultramicroscopic\n b");
}
