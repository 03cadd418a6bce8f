#include "bench/eval_result.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>

#include "measure/metrics.h"

using namespace hone;

namespace {

bool same_bits(double a, double b) {
  return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b);
}

}  // namespace

TEST_CASE("a result comes back from another process as it was") {
  EvalResult result;
  result.values = {{"loss", std::nextafter(1.0, 2)}, {"perplexity", std::nan("")}, {"tokens", 12}};
  result.answers = {{.loss = 0.1, .correct = 1, .tokens = 3, .bytes = 5, .trials = 1},
                    {.loss = 0.3, .correct = 0, .tokens = 4, .bytes = 6, .trials = 1, .correct_by_bytes = 1}};
  result.speed_prompt = 7;
  result.forms = "int8 bf16";
  result.comparison = Comparison{{{"loss", {1, 0.5, 2}, {1, 0.9, 1.1}}}, {0.25, 0.125, 0.5}, {0.5, 0.25, 0.75}};
  const auto bytes = nlohmann::json::to_cbor(to_json(result));
  const EvalResult back = eval_result_of(nlohmann::json::from_cbor(bytes));
  CHECK(same_bits(back.values.at("loss"), result.values.at("loss")));
  CHECK(std::isnan(back.values.at("perplexity")));
  CHECK(back.speed_prompt == 7);
  CHECK(back.forms == "int8 bf16");
  REQUIRE(back.answers.size() == 2);
  CHECK(same_bits(back.answers[0].loss, 0.1));
  CHECK(back.answers[0].correct_by_bytes == -1);
  CHECK(back.answers[1].trials == 1);
  CHECK(back.answers[1].correct_by_bytes == 1);
  REQUIRE(back.comparison);
  CHECK(back.comparison->metrics.front().metric == "loss");
  CHECK(back.comparison->kl.high == 0.5);
}

TEST_CASE("a row has the columns of CSV in their order, whole numbers whole, and nothing that has no value") {
  EvalResult result;
  result.values = {{"file_bytes", 100}, {"loss", 2.5}, {"tokens", 12}, {"attention_fraction", 1}, {"threads", 2}};
  const Row row = eval_row(result, "m.h5", "full", "");
  const std::vector<std::string> columns = eval_columns();
  std::string names;
  size_t at = 0;
  for (const auto& [name, cell] : row.cells()) {
    names += name + " ";
    const auto found = std::find(columns.begin() + static_cast<std::ptrdiff_t>(at), columns.end(), name);
    REQUIRE(found != columns.end());
    at = static_cast<size_t>(found - columns.begin()) + 1;
  }
  CHECK(names == "model file_bytes attention attention_fraction tokens loss ");
  CHECK(row.cells()[1].second == Cell(int64_t{100}));
  CHECK(row.cells()[5].second == Cell(2.5));
}

TEST_CASE("the columns of eval follow from the table of metrics") {
  const std::vector<std::string> columns = eval_columns();
  const auto has = [&](const std::string& name) {
    return std::find(columns.begin(), columns.end(), name) != columns.end();
  };
  for (const Metric& metric : scored_metrics()) {
    const std::string name(metric.name);
    CAPTURE(name);
    CHECK(has(name) == (metric.origin != Origin::none));
    CHECK(has(name + "_ratio_low") == metric.compared);
    CHECK(has(name + "_high") == (metric.origin == Origin::comparison));
  }
  std::vector<std::string> sorted = columns;
  std::sort(sorted.begin(), sorted.end());
  CHECK(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end());
}
