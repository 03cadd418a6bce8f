// What replacing single weights does, block by block: near what is measured one by one, and nothing where nobody looks.
#include "compress/effects.h"

#include <doctest/doctest.h>

#include <limits>
#include <map>
#include <tuple>
#include <utility>

#include "compress/activations.h"
#include "compress/quantize.h"
#include "lib/compress/models.h"
#include "support/check.h"
#include "weights/dense_weight.h"

using namespace hone;
using namespace hone::test;

namespace {

// Each weight that has activations to choose, by itself with 8 bits of them.
std::vector<Replacement> with_8_bits(Transformer& model) {
  QuantizeSettings s;
  s.type = s.embedding = int8;
  std::vector<std::string> names;
  for (const QuantizedLayer& layer : quantize_model(model, s)) names.push_back(layer.name);
  std::vector<Replacement> all;
  for (const WeightSlot& slot : weight_slots(model, activation_layers(model, names))) {
    all.push_back({slot, with_activation_bits(**slot.weight, 8)});
    all.back().by->set_rounding({kernels::F32Activations::integers, 8});
  }
  return all;
}

std::map<std::string, std::vector<size_t>> by_block(const std::vector<Replacement>& all) {
  std::map<std::string, std::vector<size_t>> blocks;
  for (size_t i = 0; i < all.size(); ++i) {
    const std::string& name = all[i].slot.name;
    blocks[name.substr(0, name.find('.', name.find('.') + 1))].push_back(i);
  }
  return blocks;
}

// Of those at `places`, together.
double measured_kl(const Transformer& model, const Reference& reference, const std::vector<Replacement>& all,
                   std::span<const size_t> places) {
  std::vector<std::shared_ptr<Weight>> kept;
  for (const size_t i : places) kept.push_back(std::exchange(*all[i].slot.weight, all[i].by));
  const double kl = reference.distance(model).kl;
  for (size_t k = 0; k < places.size(); ++k) *all[places[k]].slot.weight = kept[k];
  return kl;
}

// Examples of 13 to 40 rows, every other one with an image, in the rows that a token follows.
CalibrationText examples_with_images(int64_t count) {
  CalibrationText text{count, 0, {}};
  const std::vector<int32_t> ids = some_ids(40);
  for (int64_t i = 0; i < count; ++i) {
    Sequence& example = text.examples.emplace_back();
    example.add({ids.begin() + i, ids.begin() + 7 + 3 * i});
    const Tensor pixels = random_tensor({36}, static_cast<uint64_t>(i) + 1);
    if (i % 2) example.add(0, {{pixels.span<float>().begin(), pixels.span<float>().end()}, 6, 3});
    example.add({ids.begin() + 20, ids.begin() + 26 + i});
    const std::vector<bool> is_text = example.text();
    for (size_t next = 1; next <= example.ids.size(); ++next)
      example.targets.push_back(next < example.ids.size() && is_text[next] ? example.ids[next] : -1);
    text.length = std::max(text.length, example.size());
  }
  return text;
}

}  // namespace

TEST_CASE("effects of single weights, measured a block at a time, are near those measured one by one") {
  const std::unique_ptr<Transformer> model = fresh();
  const std::vector<Replacement> all = with_8_bits(*model);
  const std::vector<std::shared_ptr<Weight>> before = weights_of(*model);
  const CalibrationText text = calibration_windows(8, 32);
  int64_t told = 0;
  const auto effects = replacement_effects(*model, text, all, [&](int64_t done, int64_t count) {
    CHECK(done > told);
    CHECK(count == static_cast<int64_t>(all.size()));
    told = done;
  });
  CHECK(told == static_cast<int64_t>(all.size()));
  CHECK(weights_of(*model) == before);
  CHECK(replacement_effects(*model, text, all) == effects);
  const Reference reference(*model, text, DType::f32);
  for (size_t i = 0; i < all.size(); ++i) {
    CAPTURE(all[i].slot.name);
    const double alone = measured_kl(*model, reference, all, std::vector{i});
    REQUIRE(effects[i]);
    CHECK(*effects[i] > alone / 4);
    CHECK(*effects[i] < 4 * alone);
  }
  const auto blocks = by_block(all);
  CHECK(blocks.size() == 3);  // two, and the embedding
  for (const auto& [name, places] : blocks) {
    CAPTURE(name);
    double sum = 0;
    for (const size_t i : places) sum += *effects[i];
    CHECK(sum == doctest::Approx(measured_kl(*model, reference, all, places)));
  }
}

TEST_CASE("effects on examples with images, each as long as it is, are those on the rows that a token follows") {
  Config config = small_config();
  config.encoders = {"patches:2x3:GREY:8x9"};
  const std::unique_ptr<Transformer> model = fresh(config);
  const std::vector<Replacement> all = with_8_bits(*model);
  const CalibrationText text = examples_with_images(6);
  CHECK(effect_windows(text).examples.size() == 6);
  const auto effects = replacement_effects(*model, text, all);
  const Reference reference(*model, text, DType::f32);
  for (const auto& [name, places] : by_block(all)) {
    CAPTURE(name);
    double sum = 0;
    for (const size_t i : places) {
      REQUIRE(effects[i]);
      CHECK(*effects[i] > 0);
      sum += *effects[i];
    }
    CHECK(sum == doctest::Approx(measured_kl(*model, reference, all, places)));
  }
}

TEST_CASE("what a weight does that is no number is refused with its name, and the model is left as it was") {
  const std::unique_ptr<Transformer> model = fresh();
  const std::vector<Replacement> all = with_8_bits(*model);
  const std::vector<std::shared_ptr<Weight>> before = weights_of(*model);
  const CalibrationText text = calibration_windows(4, 16);
  for (size_t i = 0; i < all.size(); ++i) {
    CAPTURE(all[i].slot.name);
    std::vector<Replacement> broken = all;
    const Tensor values = all[i].by->to_dense();
    values.data<float>()[0] = std::numeric_limits<float>::quiet_NaN();
    broken[i].by = std::make_shared<DenseWeight>(values);
    const std::string said = failure([&] { replacement_effects(*model, text, broken); });
    CAPTURE(said);
    CHECK(said.find("3 what '" + all[i].slot.name + "' does") == 0);
    CHECK(weights_of(*model) == before);
  }
}

TEST_CASE("an expert that no token is sent to has no effect, and keeps exact activations whatever is allowed") {
  const std::unique_ptr<Transformer> model = fresh(mixture_config());
  leave_experts_alone(*model);
  const std::vector<Replacement> all = with_8_bits(*model);
  const CalibrationText text = calibration_windows();
  const auto effects = replacement_effects(*model, text, all);
  std::vector<std::string> names, unread;
  for (size_t i = 0; i < all.size(); ++i) {
    names.push_back(all[i].slot.name);
    if (!effects[i]) unread.push_back(all[i].slot.name);
  }
  CHECK(unread.size() == 4);  // two matrices of two experts
  for (const std::string& name : unread) CHECK(name.find("experts.") != std::string::npos);
  ActivationSettings s;
  s.text = &text;
  s.max_loss_increase = 1;
  for (const ActivationLayer& layer : choose_activations(*model, names, s).layers) {
    CAPTURE(layer.name);
    CHECK(layer.bits == (std::ranges::find(unread, layer.name) == unread.end() ? 8 : 16));
  }
}

TEST_CASE("a distance within a bound is that distance or nothing") {
  const std::unique_ptr<Transformer> model = fresh();
  const CalibrationText text = calibration_windows(8, 32);
  const Reference reference(*model, text, DType::f32);
  for (Replacement& r : with_8_bits(*model)) *r.slot.weight = r.by;
  const Distance d = reference.distance(*model);
  const auto same = reference.distance_within(*model, d.kl), more = reference.distance_within(*model, 2 * d.kl);
  REQUIRE(same);
  REQUIRE(more);
  CHECK(same->kl == d.kl);
  CHECK(more->loss == d.loss);
  CHECK_FALSE(reference.distance_within(*model, d.kl / 2));
  CHECK_FALSE(reference.distance_within(*model, 0));
}

TEST_CASE("effects are measured on a few windows, of short ones on more") {
  for (const auto& [windows, length, expected] : {std::tuple{100, 512, 4}, {100, 64, 8}, {100, 16, 16}, {3, 512, 3}}) {
    const CalibrationText text = effect_windows(calibration_windows(windows, length));
    CHECK(text.windows == expected);
    CHECK(text.length == length);
    CHECK(static_cast<int64_t>(text.ids.size()) == expected * length);
  }
}
