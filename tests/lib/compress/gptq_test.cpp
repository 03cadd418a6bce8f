// GPTQ and its coordinate descent against the scale search, by the error in the outputs.
#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "compress/masks.h"
#include "compress/methods/prune_method.h"
#include "compress/methods/round_method.h"
#include "compress/quantize.h"
#include "compress/quantize_matrix.h"
#include "compress/refine.h"
#include "kernels/packed/nearest.h"
#include "lib/compress/models.h"
#include "lib/compress/related_inputs.h"
#include "support/check.h"

using namespace hone;
using namespace hone::test;

namespace {

constexpr int64_t rows = 24;
constexpr int64_t cols = 96;

RoundedWeight rounded(const char* method, const Tensor& w, const InputStatistics* inputs,
                      kernels::PackedElement element, int64_t group, const Bitmask& mask = {}) {
  return round_method(method).run({"layer", w, mask, inputs, element, group});
}

void check_codes(const QuantizedMatrix& matrix) {
  const kernels::ElementInfo& info = kernels::info_of(matrix.element);
  for (int64_t r = 0; r < matrix.rows; ++r)
    for (int64_t c = 0; c < matrix.cols; ++c) {
      const int q = matrix.integers.data<int8_t>()[r * matrix.cols + c];
      CHECK(info.code_of(q) >= 0);
      if (matrix.mask && !matrix.mask.at(r, c)) CHECK(q == 0);
    }
  for (const float scale : matrix.scales.span<float>()) {
    CHECK(std::isfinite(scale));
    CHECK(scale == to_float(to_bf16(scale)));
  }
}

}  // namespace

TEST_CASE("the nearest integer of every element is that of quantization") {
  const Tensor w = random_tensor({4, 64}, 1, 3.0f);
  for (const kernels::PackedElement element : kernels::all_elements) {
    const kernels::ElementInfo& info = kernels::info_of(element);
    if (!info.scaled) continue;
    CAPTURE(info.name);
    const QuantizedMatrix q = quantize_matrix(w, {element, 32, true}, "w");
    const kernels::ElementNumbers numbers(element);
    for (int64_t i = 0; i < w.size(); ++i)
      CHECK(numbers.nearest(w.data<float>()[i] / q.scales.data<float>()[i / 32]) == q.integers.data<int8_t>()[i]);
    for (int code = 0; code < info.codes(); ++code)
      if (const int value = info.integer_of(code); value >= info.lowest && value <= info.highest)
        CHECK(numbers.nearest(info.number_of(value)) == value);
    CHECK(numbers.nearest(1e6f) == info.highest);
    CHECK(numbers.nearest(-1e6f) == info.lowest);
  }
}

TEST_CASE("gptq leaves less error in the outputs than the search, with every element, group and mask") {
  const InputStatistics inputs = related_inputs(cols),
                        squares = related_inputs(cols, 400, {StatisticKind::of<ColumnSquares>()});
  const Curvature curvature = curvature_of(&inputs, cols, "layer");
  const Tensor dense = random_tensor({rows, cols}, 6);
  const auto pattern = parse_pattern("unstructured");
  const Bitmask half = prune_method("magnitude").run({"layer", dense, {}, nullptr, *pattern, 0.5}).mask;
  for (const kernels::PackedElement element : kernels::all_elements) {
    if (!kernels::info_of(element).scaled) continue;
    for (const int64_t group : {0, 32, 64})  // the last group of 64 is shorter
      for (const Bitmask& mask : {Bitmask(), half}) {
        CAPTURE(kernels::info_of(element).name);
        CAPTURE(group);
        CAPTURE(static_cast<bool>(mask));
        const Tensor w = masked(dense, mask);
        const RoundedWeight plain = rounded("search", w, &squares, element, group, mask),
                            better = rounded("gptq", w, &inputs, element, group, mask);
        check_codes(better.matrix);
        const double error = output_error(w, dequantize(better.matrix), curvature).relative();
        CHECK(error < (mask ? 0.9 : 0.6) * output_error(w, dequantize(plain.matrix), curvature).relative());
        CHECK(better.relative_error == doctest::Approx(error));
      }
  }
}

TEST_CASE("coordinate descent ends where no integer alone would be better, and never makes more error") {
  const InputStatistics inputs = related_inputs(cols);
  const Curvature curvature = curvature_of(&inputs, cols, "layer");
  const Tensor w = random_tensor({4, cols}, 7);
  QuantizedMatrix matrix = quantize_matrix(w, {int4, 32, true}, "w");
  double before = output_error(w, dequantize(matrix), curvature).squared_error;
  for (int sweep = 0; sweep < 40; ++sweep) {
    refine(matrix, w, curvature, 1);
    const double now = output_error(w, dequantize(matrix), curvature).squared_error;
    CHECK(now <= before * 1.0001);
    before = now;
  }
  check_codes(matrix);
  for (int64_t i = 0; i < w.size(); ++i)
    for (const int step : {-1, 1}) {
      int8_t& q = matrix.integers.data<int8_t>()[i];
      const int8_t kept = q;
      if (kernels::info_of(int4).code_of(kept + step) < 0) continue;
      q = static_cast<int8_t>(kept + step);
      CHECK(output_error(w, dequantize(matrix), curvature).squared_error > before * 0.9999);
      q = kept;
    }
}

TEST_CASE("gptq without data is the search; fewer tokens than inputs are dampened and counted") {
  const Tensor w = random_tensor({rows, cols}, 8);
  const RoundedWeight blind = rounded("gptq", w, nullptr, int4, 32), plain = rounded("search", w, nullptr, int4, 32);
  CHECK(same_bytes(blind.matrix.integers, plain.matrix.integers));
  CHECK(same_bytes(blind.matrix.scales, plain.matrix.scales));

  const auto model = fresh(mixture_config());
  leave_experts_alone(*model);
  const CalibrationText text = calibration_windows(2, 20);
  QuantizeSettings settings;
  settings.type = int4;
  settings.embedding = PackedType();
  settings.method = &round_method("gptq");
  settings.calibration = &text;
  for (const QuantizedLayer& layer : quantize_model(*model, settings)) {
    CAPTURE(layer.name);
    const int64_t tokens = layer.calibration_tokens.value();
    CHECK(layer.data_free == (tokens == 0));
    CHECK(layer.dampened == (tokens > 0 && tokens < weight_named(*model, layer.name)->cols()));
  }
}

TEST_CASE("inputs that are not numbers are refused by gptq, and the layer is named") {
  InputStatistics inputs({{StatisticKind::of<GramMatrix>()}}, cols, false);
  Tensor x = random_tensor({200, cols}, 9);
  x.data<float>()[77] = NAN;
  inputs.add(x.view());
  const std::string text = failure([&] { rounded("gptq", random_tensor({rows, cols}, 10), &inputs, int4, 32); });
  CHECK(text.starts_with("3 layer: "));
}
