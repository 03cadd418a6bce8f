#include <doctest/doctest.h>
#include <fmt/ranges.h>

#include <vector>

#include "base/error.h"
#include "base/rows.h"
#include "compress/methods/prune_method.h"
#include "compress/methods/round_method.h"
#include "compress/quantize_matrix.h"
#include "support/check.h"
#include "support/failure.h"
#include "support/masks.h"

using namespace hone;
using namespace hone::test;

namespace {

PrunedWeight prune(const char* method, const Tensor& weight, double sparsity, const InputStatistics* inputs = nullptr,
                   const Bitmask& mask = {}) {
  const auto pattern = parse_pattern("unstructured");
  const std::string name = "blocks.3.down";
  return prune_method(method).run({name, weight, mask, inputs, *pattern, sparsity});
}

// Of tokens whose norms in each column are `norms`.
InputStatistics inputs_with(const std::vector<float>& norms, const std::vector<StatisticKind>& kinds) {
  InputStatistics inputs(kinds, static_cast<int64_t>(norms.size()), false);
  inputs.add(kernels::view(norms.data(), 1, static_cast<int64_t>(norms.size())));
  return inputs;
}

void check_numbers(const Tensor& tensor, std::initializer_list<float> expected) {
  REQUIRE(tensor.size() == static_cast<int64_t>(expected.size()));
  int64_t i = 0;
  for (const float x : expected) CHECK(tensor.data<float>()[i++] == x);
}

}  // namespace

TEST_CASE("magnitude: absolute values, compared over the layer") {
  CHECK_FALSE(prune_method("magnitude").needs_calibration());
  const PrunedWeight pruned = prune("magnitude", Tensor::of({2, 2}, {-1.5f, 0.5f, 2, -0.25f}), 0.5);
  check_numbers(pruned.scores, {1.5f, 0.5f, 2, 0.25f});
  check_numbers(pruned.weight, {-1.5f, 0.5f, 2, -0.25f});
  CHECK(pruned.mask.data()[0] == 0b01);
  CHECK(pruned.mask.data()[1] == 0b01);
}

TEST_CASE("wanda: times the norm of the input column, compared within a row") {
  const PruneMethod& method = prune_method("wanda");
  REQUIRE(method.needs == std::vector{StatisticKind::of<ColumnSquares>()});
  const InputStatistics inputs = inputs_with({2, 0, 10}, method.needs);
  const Tensor weight = Tensor::of({2, 3}, {-1, 5, 3, 4, -6, 0.5f});
  const PrunedWeight pruned = prune("wanda", weight, 1.0 / 3, &inputs);
  check_numbers(pruned.scores, {2, 0, 30, 8, 0, 5});
  CHECK(pruned.mask.data()[0] == 0b101);
  CHECK(pruned.mask.data()[1] == 0b101);
  // Without data all norms are 1.
  check_numbers(prune("wanda", weight, 1.0 / 3).scores, {1, 5, 3, 4, 6, 0.5f});
}

TEST_CASE("every pruning method keeps the zeros of an earlier mask, and prunes as many as asked") {
  const Tensor weight = random_tensor({16, 32}, 1);
  const Bitmask before = prune("magnitude", weight, 0.3).mask;
  for (const PruneMethod& method : prune_methods()) {
    CAPTURE(method.name);
    InputStatistics inputs(method.needs, 32, false);
    inputs.add(random_tensor({64, 32}, 2).view());
    const PrunedWeight pruned = prune(method.name.data(), weight, 0.75, &inputs, before);
    CHECK(pruned.mask.sparsity() == 0.75);
    CHECK(within(pruned.mask, before));
    CHECK(pruned.scores.shape() == weight.shape());
  }
}

TEST_CASE("a method's number stands behind its name, and methods without one take none") {
  const std::optional<MethodNumber> number = MethodNumber{"PART", "of it", 0.5, 0.25, 2};
  CHECK_FALSE(method_number("some", number));
  CHECK(method_number("some:0.25", number) == 0.25);
  for (const char* wrong : {"some:", "some:x", "some:0.2", "some:2.1", "some:1:1", "some:nan"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(method_number(wrong, number), Error);
  }
  CHECK_THROWS_WITH_AS(method_number("none:1", std::nullopt), doctest::Contains("takes no number"), Error);
  CHECK(method_name("some:0.25") == "some");
  CHECK(method_text("some", 0.25) == "some:0.25");
  CHECK(method_text("some", {}) == "some");
  for (const PruneMethod& method : prune_methods())
    if (method.number)
      CHECK((method.number->usual >= method.number->least && method.number->usual <= method.number->most));
}

TEST_CASE("the usual number of each method is what it does without one, and another changes what it does") {
  const Tensor weight = random_tensor({16, 32}, 1);
  const auto inputs_for = [](const auto& method) {
    InputStatistics inputs(method.needs, 32, false);
    inputs.add(random_tensor({40, 32}, 2).view());
    return inputs;
  };
  const auto pattern = parse_pattern("unstructured");
  for (const PruneMethod& method : prune_methods()) {
    if (!method.number) continue;
    CAPTURE(method.name);
    const InputStatistics inputs = inputs_for(method);
    const auto with = [&](std::optional<double> number) {
      return method.run({"layer", weight, {}, &inputs, *pattern, 0.5, number}).weight;
    };
    CHECK(relative_error(with(method.number->usual), with({})) == 0.0);
    CHECK(relative_error(with(method.number->most), with({})) > 1e-3);
  }
  for (const RoundMethod& method : round_methods()) {
    if (!method.number) continue;
    CAPTURE(method.name);
    const InputStatistics inputs = inputs_for(method);
    const auto with = [&](std::optional<double> number) {
      return dequantize(method.run({"layer", weight, {}, &inputs, kernels::element_named("int4"), 32, number}).matrix);
    };
    CHECK(relative_error(with(method.number->usual), with({})) == 0.0);
    CHECK(relative_error(with(method.number->most), with({})) > 1e-3);
  }
}

TEST_CASE("inputs that are not finite are refused, and the weight is named") {
  const InputStatistics inputs = inputs_with({1, NAN}, {StatisticKind::of<ColumnSquares>()});
  const Tensor weight = Tensor::of({1, 2}, {1, 2});
  const std::string pruned = failure([&] { prune("wanda", weight, 0.5, &inputs); });
  CHECK(pruned.starts_with("3 "));
  CHECK(pruned.find("blocks.3.down") != std::string::npos);
  const std::string rounded = failure([&] {
    round_method("search").run({"blocks.3.down", weight, {}, &inputs, kernels::element_named("int8"), 0});
  });
  CHECK(rounded.starts_with("3 "));
  CHECK(rounded.find("blocks.3.down") != std::string::npos);
}

TEST_CASE("an unknown method lists the known ones, and a statistic that was not asked for is a mistake of ours") {
  const auto refusal = [](const char* what, const char* name, const auto& rows) {
    return fmt::format("2 unknown {} '{}'; known: {}", what, name, fmt::join(names_of_rows(rows), ", "));
  };
  CHECK(failure([] { prune_method("random"); }) == refusal("pruning method", "random", prune_methods()));
  CHECK(failure([] { round_method("up"); }) == refusal("rounding method", "up", round_methods()));
  const InputStatistics nothing = inputs_with({1, 1}, {});
  CHECK(failure([&] { prune("wanda", Tensor::of({1, 2}, {1, 2}), 0.5, &nothing); }).starts_with("1 "));
}

TEST_CASE("rtn: bf16 without scales, integers by the scale that reaches the largest weight") {
  const RoundMethod& method = round_method("rtn");
  CHECK(method.name == "rtn");
  CHECK(&round_method("nearest") == &method);
  CHECK(method.needs.empty());
  const Tensor weight = Tensor::of({1, 3}, {1.0f + 1.0f / 1024, -2, 0.5f});
  const RoundedWeight bf16 = method.run({"w", weight, {}, nullptr, kernels::element_named("bf16"), 0});
  check_numbers(bf16.values, {1, -2, 0.5f});
  const double error = 1.0 / 1024, first = 1 + error;
  CHECK(bf16.relative_error == doctest::Approx(error * error / (first * first + 4 + 0.25)));

  const RoundedWeight int4 =
      method.run({"w", Tensor::of({1, 3}, {7, -3.2f, 0.6f}), {}, nullptr, kernels::element_named("int4"), 0});
  CHECK(int4.matrix.scales.data<float>()[0] == 1);
  const int expected[] = {7, -3, 1};
  for (int i = 0; i < 3; ++i) CHECK(int4.matrix.integers.data<int8_t>()[i] == expected[i]);
}

TEST_CASE("search: never worse than rtn, and by the squares of the inputs better where they differ") {
  const RoundMethod& search = round_method("search");
  REQUIRE(search.needs == std::vector{StatisticKind::of<ColumnSquares>()});
  const Tensor weight = random_tensor({8, 64}, 3);
  std::vector<float> norms(64, 0.01f);
  for (size_t c = 0; c < 64; c += 7) norms[c] = 3;
  const InputStatistics inputs = inputs_with(norms, search.needs);
  const auto run = [&](const char* method, const InputStatistics* with) {
    return round_method(method).run({"w", weight, {}, with, kernels::element_named("int4"), 32});
  };
  const RoundedWeight plain = run("search", nullptr), weighted = run("search", &inputs);
  CHECK(plain.relative_error < run("rtn", nullptr).relative_error);
  const std::vector<float> means = inputs.get<ColumnSquares>().means();
  CHECK(weighted.relative_error == quantization_error(weight, weighted.matrix, means).relative());
  CHECK(weighted.relative_error < 0.8 * quantization_error(weight, plain.matrix, means).relative());
}
