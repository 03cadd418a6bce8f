#include "bench/requests/arrivals.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>

#include "base/error.h"
#include "bench/requests/slo.h"
#include "support/scratch.h"

using namespace hone;

namespace {

std::vector<Arrival> trace_of(const std::string& text, int64_t divide = 1, int64_t count = 0) {
  const test::Scratch scratch;
  std::ofstream(scratch / "t.jsonl") << text;
  return read_trace(scratch / "t.jsonl", divide, count);
}

std::string error_of(const auto& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

const std::string good = R"({"timestamp": 500, "input_length": 1100, "output_length": 40, "hash_ids": [0, 7, 9]})"
                         "\n\n"
                         R"({"timestamp": 2500.5, "input_length": 600, "output_length": 1, "hash_ids": [0, 8]})"
                         "\n"
                         R"({"timestamp": 2500.5, "input_length": 3, "output_length": 2})";

}  // namespace

TEST_CASE("a trace is requests with their times, lengths and shared beginnings") {
  const std::vector<Arrival> all = trace_of(good);
  REQUIRE(all.size() == 3);
  CHECK(all[0].seconds == 0);
  CHECK(all[1].seconds == doctest::Approx(2.0005));
  CHECK(all[1].number == 3);
  CHECK(all[0].prompt == 1100);
  CHECK(all[0].tokens == 40);
  for (const int64_t divide : {1, 3, 32, 2000}) {
    CAPTURE(divide);
    const std::vector<Arrival> some = trace_of(good, divide);
    CHECK(some[0].prompt == (1100 + divide - 1) / divide);
    CHECK(some[1].tokens == 1);
    std::vector<std::vector<int32_t>> texts;
    for (const Arrival& arrival : some) texts.push_back(prompt_of(arrival, divide, 50, 1));
    for (size_t i = 0; i < texts.size(); ++i) {
      CHECK(static_cast<int64_t>(texts[i].size()) == some[i].prompt);
      CHECK(std::ranges::all_of(texts[i], [](int32_t id) { return id > 0 && id < 50; }));
    }
    if (divide > 32) continue;
    const auto shared = static_cast<ptrdiff_t>((512 + divide - 1) / divide);
    CHECK(std::equal(texts[0].begin(), texts[0].begin() + shared, texts[1].begin()));
    CHECK(!std::equal(texts[1].begin() + shared, texts[1].end(), texts[0].begin() + shared));
  }
  CHECK(trace_of(good, 1, 2).size() == 2);
}

TEST_CASE("a line that is no request is named") {
  const std::string first = R"({"timestamp": 9, "input_length": 5, "output_length": 5})"
                            "\n";
  for (const auto& [line, part] : std::vector<std::pair<std::string, std::string>>{
           {"{", "not JSON"},
           {"[]", "no JSON object"},
           {R"({"input_length": 5, "output_length": 5})", "timestamp"},
           {R"({"timestamp": -1, "input_length": 5, "output_length": 5})", "timestamp"},
           {R"({"timestamp": 8, "input_length": 5, "output_length": 5})", "run forward"},
           {R"({"timestamp": 1e12, "input_length": 5, "output_length": 5})", "no trace is longer"},
           {R"({"timestamp": 9, "input_length": 5, "output_length": 5, "x": )" + std::string(70, '[') +
                std::string(70, ']') + "}",
            "nested more than 64"},
           {R"({"timestamp": 9, "input_length": 0, "output_length": 5})", "input_length"},
           {R"({"timestamp": 9, "input_length": 5, "output_length": -5})", "output_length"},
           {R"({"timestamp": 9, "input_length": 5.5, "output_length": 5})", "input_length"},
           {R"({"timestamp": 9, "input_length": 513, "output_length": 5, "hash_ids": [1]})", "2 blocks"},
           {R"({"timestamp": 9, "input_length": 5, "output_length": 5, "hash_ids": ["a"]})", "hash_ids"}}) {
    CAPTURE(line);
    const std::string error = error_of([&] { trace_of(first + line); });
    CHECK(error.find("line 2") != std::string::npos);
    CHECK(error.find(part) != std::string::npos);
  }
  CHECK(error_of([] { trace_of("\n"); }).find("no line") != std::string::npos);
}

TEST_CASE("requests at random have the rate, and are the same at another one") {
  const std::vector<Arrival> slow = poisson_arrivals(2, 4000, {10, 12}, {1, 1}, 3),
                             fast = poisson_arrivals(8, 4000, {10, 12}, {1, 1}, 3);
  CHECK(slow.back().seconds == doctest::Approx(2000).epsilon(0.06));
  std::set<int64_t> lengths;
  double squares = 0;
  for (size_t i = 0; i < slow.size(); ++i) {
    lengths.insert(slow[i].prompt);
    CHECK(slow[i].seconds == doctest::Approx(4 * fast[i].seconds));
    CHECK(slow[i].prompt == fast[i].prompt);
    const double gap = slow[i].seconds - (i ? slow[i - 1].seconds : 0);
    squares += gap * gap;
  }
  CHECK(squares / 4000 == doctest::Approx(2 * 0.5 * 0.5).epsilon(0.12));  // exponential: E[x²] is 2 mean²
  CHECK(lengths == std::set<int64_t>{10, 11, 12});
}

TEST_CASE("an objective is names with times") {
  const Slo o = slo_of("token=50ms,first_token=1.5s");
  CHECK(o.token == doctest::Approx(0.05));
  CHECK(o.first_token == 1.5);
  CHECK(std::isinf(o.request));
  CHECK(o.any());
  CHECK(!Slo().any());
  for (const char* bad : {"", "token", "token=", "token=5", "token=-1s", "token=0s", "tokens=1s", "token=1s,token=2s",
                          "token=1s,", "request=nans", "token=1days"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(slo_of(bad), Error);
  }
}
