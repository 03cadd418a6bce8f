#include "base/rows.h"

#include <doctest/doctest.h>

using namespace hone;

namespace {

struct Row {
  std::string_view name, what;
};
constexpr Row rows[] = {{"first", "what comes first"}, {"second", "what follows"}};
enum class Place : uint8_t {};

}  // namespace

TEST_CASE("rows are found by their names, and listed with what they are") {
  static_assert(row_named<Place>(rows, "second") == Place{1});
  CHECK(find_row<Place>(rows, "first") == Place{0});
  CHECK(!find_row<Place>(rows, "First"));
  CHECK(!find_row<Place>(rows, ""));
  CHECK(names_of_rows(rows) == std::vector<std::string>{"first", "second"});
  CHECK(rows_in_words(rows) == "first (what comes first) or second (what follows)");
}
