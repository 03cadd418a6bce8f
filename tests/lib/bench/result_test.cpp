#include "bench/result.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

using namespace hone;

namespace {

BenchResult prompt_of(const std::string& attention, int64_t tokens, double attention_ms, double rate = 100) {
  BenchResult r;
  r.model = "m.h5";
  r.attention = attention;
  r.threads = 2;
  r.precision = "f32";
  r.repeat = 3;
  GenerationResult g{.prompt = tokens, .generate = 0, .prefill = {rate, 2 * rate, 6 * rate}};
  g.attention_ms = attention_ms;
  g.first_token_ms = 2 * attention_ms;
  r.measured = g;
  return r;
}

std::string names_of(const Report& report) {
  std::string names;
  for (const Report::Column& column : report.columns()) names += column.name + " ";
  return names;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("rates are medians, of what was measured") {
  BenchResult r = prompt_of("full", 8, 1);
  CHECK(rates(r) == std::vector<std::pair<std::string, double>>{{"prefill", 200}});
  GenerationResult g = *r.generation();
  g.generate = 4;
  g.decode = {5, 1, 3};
  r.measured = g;
  CHECK(rates(r) == std::vector<std::pair<std::string, double>>{{"prefill", 200}, {"decode", 3}});
  r.measured = TrainingResult{.context = 8, .steps = 1, .train = {7, 9, 8}};
  CHECK(rates(r) == std::vector<std::pair<std::string, double>>{{"train", 8}});
}

TEST_CASE("a row has the samples' median, spread and ends; what all rows share stands below") {
  std::vector<BenchResult> results = {prompt_of("full", 8, 1, 10), prompt_of("full", 16, 3, 20)};
  results[1].ratios = {{"prefill", 2}};
  const Report report = bench_report(results);
  REQUIRE(report.size() == 2);
  const std::string names = names_of(report);
  CHECK(has(names, "prompt "));
  for (const char* shared : {"attention ", "threads ", "precision ", "repeat "})
    CHECK_FALSE(has(" " + names, std::string(" ") + shared));
  CHECK_FALSE(has(names, "decode_tokens_per_second"));
  const auto value = [&](size_t row, const std::string& name) {
    for (size_t c = 0; c < report.columns().size(); ++c)
      if (report.columns()[c].name == name) return report.cell(row, c);
    return Cell();
  };
  CHECK(value(0, "prefill_tokens_per_second") == Cell(20.0));
  CHECK(value(0, "prefill_tokens_per_second_spread") == Cell(10.0));
  CHECK(value(0, "prefill_tokens_per_second_min") == Cell(10.0));
  CHECK(value(1, "prefill_tokens_per_second_max") == Cell(120.0));
  CHECK(value(1, "prefill_ratio") == Cell(2.0));
  CHECK(value(0, "prefill_ratio") == Cell());
  std::string common;
  for (const auto& [name, cell] : report.common().cells()) common += name + " ";
  for (const char* shared : {"attention", "threads", "precision", "repeat", "cpu", "isa"}) CHECK(has(common, shared));
}

TEST_CASE("a crossover is the length from which on one kind of attention stays faster than the first") {
  std::vector<BenchResult> results;
  for (const auto& [tokens, full, window, routed] :
       {std::tuple{8, 1.0, 0.5, 4.0}, {16, 2.0, 3.0, 5.0}, {32, 4.0, 3.0, 6.0}, {64, 12.0, 3.0, 13.0}})
    for (const auto& [kind, ms] : {std::pair{"full", full}, {"window:8", window}, {"routed:8:2", routed}})
      results.push_back(prompt_of(kind, tokens, ms));
  const std::vector<std::string> lines = crossovers(results);
  REQUIRE(lines.size() == 2);
  CHECK(lines[0] == "attention routed:8:2 is not faster than full at prompt 64");
  CHECK(lines[1] == "attention window:8 is faster than full from prompt 32 on, 4.00 times at 64");
  results[0].batch = 2;
  CHECK(crossovers(results).empty());
  CHECK(crossovers({}).empty());
  CHECK(crossovers({prompt_of("full", 8, 1), prompt_of("full", 16, 1)}).empty());
}

TEST_CASE("the picture shows rates, and times where kinds of attention are compared") {
  const std::string one = bench_plot({prompt_of("full", 8, 1), prompt_of("full", 16, 3)});
  CHECK(has(one, "prefill_tokens_per_second"));
  CHECK_FALSE(has(one, "attention_ms"));
  CHECK_FALSE(has(one, "decode_tokens_per_second"));
  CHECK(has(one, "prompt (tokens)"));
  const std::string two = bench_plot({prompt_of("full", 8, 1), prompt_of("window:8", 8, 2)});
  CHECK(has(two, "attention_ms"));
  CHECK(has(two, "first_token_ms"));
  CHECK(has(two, "window:8"));
  BenchResult batch = prompt_of("full", 8, 1);
  batch.batch = 4;
  CHECK(has(bench_plot({prompt_of("full", 8, 1), batch}), "batch (sequences)"));
}
