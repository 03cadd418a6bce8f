#include "dataset/windows.h"

#include <doctest/doctest.h>

#include "base/error.h"

using hone::windows_for_eval;

TEST_CASE("every token after the first is scored exactly once, with as much context as the stride promises") {
  for (const int64_t tokens : {2, 3, 7, 16, 17, 18, 100, 257}) {
    for (const int64_t context : {1, 2, 5, 16, 64, 300}) {
      for (const int64_t stride : {int64_t{1}, (context + 1) / 2, context}) {
        CAPTURE(tokens);
        CAPTURE(context);
        CAPTURE(stride);
        std::vector<int> scored(static_cast<size_t>(tokens));
        for (const auto& w : windows_for_eval(tokens, context, stride)) {
          REQUIRE(w.begin >= 0);
          REQUIRE(w.length >= 1);
          REQUIRE(w.length <= context);
          REQUIRE(w.begin + w.length + 1 <= tokens);
          REQUIRE(w.first_scored >= 0);
          REQUIRE(w.first_scored < w.length);
          if (w.begin > 0) CHECK(w.first_scored >= context - stride);
          for (int64_t i = w.first_scored; i < w.length; ++i) ++scored[static_cast<size_t>(w.begin + i + 1)];
        }
        CHECK(scored[0] == 0);
        for (size_t i = 1; i < scored.size(); ++i) CHECK(scored[i] == 1);
      }
    }
  }
}

TEST_CASE("a stride of the context does not overlap, and nothing is left to score in a text of one token") {
  const auto windows = windows_for_eval(11, 4, 4);
  REQUIRE(windows.size() == 3);
  CHECK(windows[1].begin == 4);
  CHECK(windows[1].first_scored == 0);
  CHECK(windows[2].length == 2);
  CHECK(windows_for_eval(1, 4, 4).empty());
  CHECK(windows_for_eval(0, 4, 4).empty());
}

TEST_CASE("an impossible stride is a usage error") {
  CHECK_THROWS_AS(windows_for_eval(100, 4, 0), hone::Error);
  CHECK_THROWS_AS(windows_for_eval(100, 4, 5), hone::Error);
  CHECK_THROWS_AS(windows_for_eval(100, 0, 0), hone::Error);
}
