#include "bench/requests/step_costs.h"

#include <doctest/doctest.h>

#include <fstream>

#include "base/error.h"
#include "support/scratch.h"

using namespace hone;

namespace {

template <class F>
CostTable table_of(const std::vector<int64_t>& down, const std::vector<int64_t>& across, const F& seconds) {
  CostTable table{down, across, {}};
  for (const int64_t x : down)
    for (const int64_t y : across) table.seconds.push_back(seconds(static_cast<double>(x), static_cast<double>(y)));
  return table;
}

// What is a line by each of two numbers is the same anywhere on the grid.
StepCosts made_up() {
  StepCosts costs;
  for (const bool behind : {false, true}) {
    const double more = behind ? 1 : 0;
    costs.behind[behind].write =
        table_of(behind ? std::vector<int64_t>{1, 5} : std::vector<int64_t>{1, 2, 8}, {0, 64, 256},
                 [&](double texts, double before) { return 0.5 + more + texts * (0.25 + before / 64); });
    costs.behind[behind].piece = table_of(
        {0, 1, 4}, {1, 16, 64}, [&](double texts, double tokens) { return 1 + 2 * more + texts / 4 + tokens / 8; });
  }
  costs.piece_more =
      table_of({0, 64, 256}, {1, 48}, [](double before, double tokens) { return before * (1 + tokens) / 64; });
  costs.after_wait = table_of({0}, {1, 64}, [](double, double tokens) { return 3 + tokens / 16; });
  costs.spread = {0.5, 2};
  costs.piece_spread = {1};
  costs.of = {{"isa", "avx2"}, {"threads", 2}};
  return costs;
}

}  // namespace

TEST_CASE("costs are straight lines between what was measured, and beyond") {
  const StepCosts costs = made_up();
  CHECK(costs({.contexts = {0, 0, 0}}) == doctest::Approx(0.5 + 0.75));
  CHECK(costs({.contexts = {0, 0, 0}, .behind_piece = true}) == doctest::Approx(1.5 + 0.75));
  CHECK(costs({.contexts = std::vector<int64_t>(12, 0)}) == doctest::Approx(0.5 + 3));
  // Each has its share of a step of texts like it.
  CHECK(costs({.contexts = {32, 160, 320}}) == doctest::Approx(0.5 + 0.75 + 0.5 + 2.5 + 5));
  CHECK(costs({.contexts = {32}, .behind_piece = true}) == doctest::Approx(1.5 + 0.25 + 0.5));
  CHECK(costs({.contexts = {0, 0, 0}, .chunk = 40}) == doctest::Approx(1 + 0.75 + 5));
  CHECK(costs({.contexts = {}, .chunk = 16, .first = 256}) == doctest::Approx(1 + 2 + 4 * 17));
  CHECK(costs({.contexts = {}, .chunk = 80, .first = 160}) == doctest::Approx(1 + 10 + 2.5 * 81));
  CHECK(costs({.contexts = {}, .chunk = 32, .first = 0, .behind_wait = true}) == doctest::Approx(1 + 4 + 3 + 2));
  CHECK(costs({.contexts = {64, 0}, .chunk = 8, .first = 32, .behind_piece = true}) ==
        doctest::Approx(1 + 2 + 0.5 + 1 + 1 + 0.5 * 9));
}

TEST_CASE("costs come back from their file, and no others do") {
  const StepCosts costs = made_up();
  const test::Scratch scratch;
  const auto keep = [&](const std::string& text) { std::ofstream(scratch / "c.json") << text; };
  keep(json_of(costs).dump());
  const StepCosts back = read_step_costs(scratch / "c.json", costs.of);
  for (const bool behind : {false, true}) {
    CHECK(back.behind[behind].write.down == costs.behind[behind].write.down);
    CHECK(back.behind[behind].write.across == costs.behind[behind].write.across);
    CHECK(back.behind[behind].write.seconds == costs.behind[behind].write.seconds);
    CHECK(back.behind[behind].piece.seconds == costs.behind[behind].piece.seconds);
  }
  CHECK(back.piece_more.seconds == costs.piece_more.seconds);
  CHECK(back.after_wait.seconds == costs.after_wait.seconds);
  CHECK(back.spread == costs.spread);
  CHECK(back.piece_spread == costs.piece_spread);
  CHECK_THROWS_WITH(read_step_costs(scratch / "c.json", {{"isa", "avx2"}, {"threads", 1}}),
                    doctest::Contains("another threads"));
  nlohmann::ordered_json broken = json_of(costs), of_nothing = broken;
  broken["behind_piece"]["write"]["seconds"].erase(0);
  of_nothing["of"] = {1, 2};
  for (const std::string& text :
       {std::string("{"), std::string("[]"), std::string("{\"rows\": 3}"), broken.dump(), of_nothing.dump()}) {
    keep(text);
    CHECK_THROWS_AS(read_step_costs(scratch / "c.json", costs.of), Error);
  }
  for (const double never : {-1.0, 1e308}) {
    nlohmann::ordered_json after = json_of(costs), seconds = after;
    after["after_wait"]["seconds"][0] = never;
    seconds["behind_write"]["piece"]["seconds"][1] = never;
    for (const nlohmann::ordered_json& text : {after, seconds}) {
      keep(text.dump());
      CHECK_THROWS_WITH(read_step_costs(scratch / "c.json", costs.of), doctest::Contains("damaged"));
    }
  }
}
