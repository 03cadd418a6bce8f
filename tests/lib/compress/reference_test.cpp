// Distances on examples are those on windows of the same tokens, of the rows that predict something.
#include "compress/reference.h"

#include <doctest/doctest.h>

#include "compress/quantize.h"
#include "lib/compress/models.h"

using namespace hone;
using namespace hone::test;

namespace {

// The windows as examples whose rows predict the next token, from row `first` on.
CalibrationText as_examples(const CalibrationText& text, int64_t first) {
  CalibrationText examples{text.windows, text.length, {}};
  for (int64_t w = 0; w < text.windows; ++w) {
    Sequence& example = examples.examples.emplace_back();
    const Input window = text.input(w);
    example.add({window.ids.begin(), window.ids.end()});
    example.targets = text.targets(w);
    for (int64_t row = 0; row < first; ++row) example.targets[static_cast<size_t>(row)] = -1;
  }
  return examples;
}

}  // namespace

TEST_CASE("examples are measured as windows of their tokens are, in the rows that have a target") {
  const CalibrationText text = calibration_windows(4, 16), examples = as_examples(text, 0),
                        ends = as_examples(text, 12);
  CHECK(examples.rows() == 64);
  CHECK(examples.rows() == text.rows());
  const auto model = fresh(small_config()), other = fresh(small_config());
  QuantizeSettings s;
  s.type = s.embedding = packed_type_named("int4");
  quantize_model(*other, s);
  const Distance windows = Reference(*model, text, DType::f32).distance(*other);
  const Distance same = Reference(*model, examples, DType::f32).distance(*other);
  CHECK(same.loss == windows.loss);
  CHECK(same.accuracy == windows.accuracy);
  CHECK(same.kl > 0);
  CHECK(same.kl == doctest::Approx(windows.kl).epsilon(0.5));  // of windows also in their last rows
  const Distance few = Reference(*model, ends, DType::f32).distance(*other);
  CHECK(few.loss != windows.loss);
  CHECK(few.kl > 0);
  CHECK(few.kl != same.kl);
  const CalibrationText some = some_windows(examples, 2);
  REQUIRE(some.examples.size() == 2);
  CHECK(some.rows() == 32);
  CHECK(some.examples[1].ids == examples.examples[2].ids);
}
