#include "base/rows.h"

#include <doctest/doctest.h>

#include "base/error.h"

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
  CHECK(find_row<Place>(rows, "first", 1) == Place{1});  // a table whose places are counted from 1
  CHECK(&row_called(rows, "second", "place") == &rows[1]);
  CHECK_THROWS_WITH_AS(row_called(rows, "secnd", "place"),
                       "unknown place 'secnd'; known: first, second; did you mean 'second'?", Error);
  CHECK(place_called<Place>(rows, "second", "place") == Place{1});
  CHECK_THROWS_AS(place_called<Place>(rows, "secnd", "place"), Error);
  CHECK(names_of_rows(rows) == std::vector<std::string>{"first", "second"});
  CHECK(rows_in_words(rows) == "first (what comes first) or second (what follows)");
}

TEST_CASE("rows with numbers are found by the first words of their forms") {
  struct Kind {
    const char* form;
  };
  constexpr Kind kinds[] = {{"full"}, {"window:SIZE[:SINKS]"}, {"ngram[:N]"}};
  static_assert(form_named<Place>(kinds, "ngram", 1) == Place{3});
  CHECK(find_form<Place>(kinds, "full") == Place{0});
  CHECK(find_form<Place>(kinds, "window:64:4") == Place{1});
  CHECK(find_form<Place>(kinds, "ngram") == Place{2});
  CHECK(!find_form<Place>(kinds, "win"));
  CHECK(!find_form<Place>(kinds, ""));
  CHECK(forms_of_rows(kinds) == std::vector<std::string>{"full", "window:SIZE[:SINKS]", "ngram[:N]"});
  CHECK(&form_called(kinds, "window:x", "kind") == &kinds[1]);  // its numbers are another's to read
  CHECK_THROWS_WITH_AS(form_called(kinds, "windw:64", "kind"),
                       "unknown kind 'windw:64'; known: full, window:SIZE[:SINKS], ngram[:N]; did you mean 'window'?",
                       Error);
}
