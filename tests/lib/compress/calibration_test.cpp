#include "compress/calibration.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <numeric>

#include "compress/methods/prune_method.h"
#include "lib/compress/models.h"
#include "support/stopping.h"
#include "weights/dense_weight.h"

using namespace hone;
using namespace hone::test;

namespace {

const std::vector<StatisticKind> squares = {StatisticKind::of<ColumnSquares>()};

std::vector<CalibrationTarget> all_targets(Transformer& model) {
  std::vector<CalibrationTarget> targets;
  for (const WeightSlot& slot : weight_slots(model)) targets.push_back({slot.name, squares});
  return targets;
}

// What is measured of each, and what every weight of a block becomes: half of it, by magnitude.
struct Pruned {
  std::vector<std::string> order;
  std::map<std::string, std::vector<float>> norms;
  std::map<std::string, int64_t> tokens;
  std::map<std::string, std::shared_ptr<Weight>> weights;
};

Pruned walk(Transformer& model, const CalibrationText& text, DType type, bool prune,
            MeasuredBehind behind = MeasuredBehind::layers) {
  Pruned result;
  const std::vector<CalibrationTarget> targets = all_targets(model);
  calibrate(model, targets, behind, &text, type, [&](size_t i, const Measurement& measured) {
    const std::string& name = targets[i].name;
    result.order.push_back(name);
    if (measured.inputs) result.norms[name] = measured.inputs->get<ColumnSquares>().norms();
    if (measured.tokens) result.tokens[name] = *measured.tokens;
    if (!prune || !name.starts_with("blocks.")) return;
    std::shared_ptr<Weight>& weight = weight_named(model, name);
    const auto pattern = parse_pattern("unstructured");
    const PrunedWeight half =
        prune_method("magnitude").run({name, weight->to_dense().clone(), {}, nullptr, *pattern, 0.5});
    weight = std::make_shared<DenseWeight>(half.weight, half.mask);
    result.weights[name] = weight;
  });
  return result;
}

std::vector<float> norms_of(Transformer& model, const std::string& name, const CalibrationText& text, DType type) {
  const CalibrationTarget targets[] = {{name, squares}};
  std::vector<float> norms;
  calibrate(model, targets, MeasuredBehind::layers, &text, type, [&](size_t, const Measurement& measured) {
    if (measured.inputs) norms = measured.inputs->get<ColumnSquares>().norms();
  });
  return norms;
}

}  // namespace

TEST_CASE("held-out windows are those that calibration leaves out, spread over the text") {
  std::vector<int32_t> ids(103);
  std::iota(ids.begin(), ids.end(), 0);
  const Corpus corpus = corpus_of(ids, byte_tokenizer(), "test");
  const auto starts = [](const CalibrationText& text) {
    std::vector<int32_t> first;
    for (int64_t w = 0; w < text.windows; ++w) first.push_back(text.ids[static_cast<size_t>(w * text.length)]);
    return first;
  };
  CHECK(starts(calibration_text(corpus, 4, 10)) == std::vector<int32_t>{0, 20, 50, 70});
  CHECK(starts(held_out_text(corpus, 4, 10, 100)) == std::vector<int32_t>{10, 30, 40, 60, 80, 90});
  CHECK(starts(held_out_text(corpus, 4, 10, 3)) == std::vector<int32_t>{10, 40, 80});
  CHECK(held_out_text(corpus, 10, 10, 3).windows == 0);
  CHECK(held_out_text(corpus, 50, 10, 3).windows == 0);
}

TEST_CASE("what enters the first layer is the normalized embedding") {
  const auto model = fresh();
  const CalibrationText text = calibration_windows();
  const std::vector<float> norms = norms_of(*model, "blocks.0.attention.qkv.weight", text, DType::f32);
  const float* embedding = model->embedding()->to_dense().data<float>();
  REQUIRE(norms.size() == 48);
  std::vector<double> sums(48);
  for (const int32_t id : text.ids) {
    double mean = 0;
    for (int64_t c = 0; c < 48; ++c) mean += std::pow(static_cast<double>(embedding[id * 48 + c]), 2) / 48;
    for (int64_t c = 0; c < 48; ++c)
      sums[static_cast<size_t>(c)] += std::pow(static_cast<double>(embedding[id * 48 + c]), 2) / (mean + 1e-5);
  }
  for (size_t c = 0; c < 48; ++c) CHECK(norms[c] == doctest::Approx(std::sqrt(sums[c])).epsilon(1e-4));
}

TEST_CASE("every layer is measured behind all that was changed before it, in its own block too") {
  struct Case {
    DType type;
    bool mixture, tied;
  };
  const CalibrationText text = calibration_windows(16, 32);  // enough for every expert
  for (const Case& c : {Case{DType::f32, true, true}, Case{DType::bf16, false, false}}) {
    Config config = c.mixture ? mixture_config() : small_config();
    config.tied = c.tied;
    const auto model = fresh(config), again = fresh(config), untouched = fresh(config);
    Pruned walked = walk(*model, text, c.type, true), unpruned = walk(*untouched, text, c.type, false);
    CHECK(walked.order.size() == weight_slots(*model).size());
    CHECK(walked.order.back() == "embedding.weight");
    // One after the other as the walk had them, each alone in a model where those before it are pruned already.
    for (const std::string& name : walked.order) {
      CAPTURE(name);
      const std::vector<float> here = norms_of(*again, name, text, c.type);
      CHECK(walked.norms[name] == here);
      CHECK(here.empty() == (name == "embedding.weight" && !c.tied));  // no product enters it
      if (!here.empty()) CHECK((unpruned.norms[name] == here) == (name == "blocks.0.attention.qkv.weight"));
      if (walked.weights.contains(name)) weight_named(*again, name) = walked.weights.at(name);
    }
  }
}

TEST_CASE("behind blocks: a block is measured as it was, behind what has become of those before it") {
  const CalibrationText text = calibration_windows(16, 32);
  for (const Config& config : {small_config(), mixture_config()}) {
    const auto model = fresh(config), again = fresh(config);
    Pruned walked = walk(*model, text, DType::f32, true, MeasuredBehind::blocks);
    for (const WeightSlot& slot : weight_slots(*again)) {
      CAPTURE(slot.name);
      if (slot.name.starts_with("blocks.0."))
        CHECK(walked.norms[slot.name] == norms_of(*again, slot.name, text, DType::f32));
    }
    for (const auto& [name, weight] : walked.weights)
      if (name.starts_with("blocks.0.")) weight_named(*again, name) = weight;
    for (const auto& [name, norms] : walked.norms) {
      CAPTURE(name);
      if (name.starts_with("blocks.1.")) CHECK(norms == norms_of(*again, name, text, DType::f32));
    }
    CHECK(walked.norms.size() == weight_slots(*model).size());
  }
}

TEST_CASE("the order within a block: attention, then the feed-forward; experts side by side") {
  const auto model = fresh(mixture_config());
  const Pruned walked = walk(*model, calibration_windows(), DType::f32, true);
  const std::vector<std::string> expected = {"blocks.0.attention.qkv.weight",
                                             "blocks.0.attention.output.weight",
                                             "blocks.0.feed_forward.gate_up.weight",
                                             "blocks.0.feed_forward.down.weight",
                                             "blocks.1.attention.qkv.weight",
                                             "blocks.1.attention.output.weight",
                                             "blocks.1.feed_forward.shared.gate_up.weight",
                                             "blocks.1.feed_forward.shared.down.weight",
                                             "blocks.1.feed_forward.experts.0.gate_up.weight",
                                             "blocks.1.feed_forward.experts.1.gate_up.weight",
                                             "blocks.1.feed_forward.experts.2.gate_up.weight",
                                             "blocks.1.feed_forward.experts.3.gate_up.weight",
                                             "blocks.1.feed_forward.experts.0.down.weight",
                                             "blocks.1.feed_forward.experts.1.down.weight",
                                             "blocks.1.feed_forward.experts.2.down.weight",
                                             "blocks.1.feed_forward.experts.3.down.weight",
                                             "embedding.weight"};
  CHECK(walked.order == expected);
}

TEST_CASE("a block with a router of depth is measured as a whole, by the tokens that go through") {
  Config config = small_config();
  config.layers[1].depth_fraction = 0.5;
  const auto model = fresh(config);
  struct Larger : Visitor {  // so that some go through, and some do not
    void weight(const ParameterInfo&, std::shared_ptr<Weight>&) override {}
    void parameter(const ParameterInfo& info, Parameter& parameter) override {
      if (info.role == Role::depth_router)
        for (float& x : parameter.value.span<float>()) x *= 20;
    }
  } larger;
  model->visit(larger);
  const CalibrationText text = calibration_windows();
  ModelDepth depth;
  {
    const NoTape pause;
    Call call = model->call(Batch::whole(text.windows, text.length), DType::f32);
    call.trace.depth = &depth;
    model->hidden(text.ids, call);
  }
  REQUIRE(depth[1].passed > 10);
  REQUIRE(depth[1].passed < depth[1].tokens - 10);
  const Pruned before = walk(*model, text, DType::f32, false), after = walk(*model, text, DType::f32, true);
  for (const char* name : {"attention.qkv", "attention.output", "feed_forward.gate_up", "feed_forward.down"}) {
    CHECK(before.tokens.at(fmt::format("blocks.0.{}.weight", name)) == text.windows * text.length);
    CHECK(before.tokens.at(fmt::format("blocks.1.{}.weight", name)) == depth[1].passed);
  }
  // Down is behind what has become of gate_up.
  CHECK(before.norms.at("blocks.1.feed_forward.down.weight") != after.norms.at("blocks.1.feed_forward.down.weight"));
}

TEST_CASE("every layer sees each token once, and experts those that are routed to them") {
  const CalibrationText text = calibration_windows(200, 32);  // more than go through a block at once
  const auto model = fresh(mixture_config());
  const Pruned walked = walk(*model, text, DType::f32, true);
  const std::string experts = "blocks.1.feed_forward.experts.";
  int64_t up = 0, down = 0;
  for (const auto& [name, tokens] : walked.tokens) {
    CAPTURE(name);
    if (!name.starts_with(experts))
      CHECK(tokens == 200 * 32);
    else
      (name.find("down") == std::string::npos ? up : down) += tokens;
  }
  CHECK(walked.tokens.size() == 17);
  CHECK(up == 2 * 200 * 32);
  CHECK(down == up);
}

TEST_CASE("an expert with fewer tokens than inputs counts as not measured, and that is said") {
  const auto model = fresh(mixture_config());
  leave_experts_alone(*model);
  const CalibrationText text = calibration_windows();
  const std::vector<CalibrationTarget> targets = all_targets(*model);
  calibrate(*model, targets, MeasuredBehind::layers, &text, DType::f32, [&](size_t i, const Measurement& measured) {
    CAPTURE(targets[i].name);
    const std::string& name = targets[i].name;
    const bool alone = name.find("experts.2") != std::string::npos || name.find("experts.3") != std::string::npos;
    CHECK(measured.data_free == alone);
    CHECK((measured.inputs == nullptr) == alone);
    CHECK(measured.tokens.value_or(-1) == (alone ? 0 : 128));
  });
}

TEST_CASE("only what is needed is measured; without text nothing is") {
  const auto model = fresh();
  std::vector<CalibrationTarget> targets = all_targets(*model);
  for (CalibrationTarget& target : targets)
    if (target.name != "blocks.0.feed_forward.down.weight") target.needs.clear();
  const CalibrationText text = calibration_windows();
  for (const CalibrationText* given : {&text, static_cast<const CalibrationText*>(nullptr)}) {
    size_t changed = 0;
    std::vector<int64_t> done;
    calibrate(
        *model, targets, MeasuredBehind::layers, given, DType::f32,
        [&](size_t i, const Measurement& measured) {
          ++changed;
          CHECK((measured.inputs != nullptr) == (given && !targets[i].needs.empty()));
          CHECK(measured.tokens.has_value() == (given && !targets[i].needs.empty()));
          CHECK_FALSE(measured.data_free);
        },
        [&](int64_t part, int64_t all) {
          done.push_back(part);
          CHECK(all == 3);
        });
    CHECK(changed == targets.size());
    CHECK(done == std::vector<int64_t>{1, 2, 3});
  }
}

TEST_CASE("a walk that ends early leaves the model in working order") {
  const auto model = fresh();
  const CalibrationText text = calibration_windows();
  const auto logits = [&] {
    const Var hidden = model->hidden(std::span(text.ids).first(16), model->call(Batch::whole(1, 16), DType::f32));
    return model->logits(hidden.value());
  };
  const Tensor before = logits();
  const std::vector<CalibrationTarget> targets = all_targets(*model);
  const auto nothing = [](size_t, const Measurement&) {};
  CHECK_THROWS_AS(calibrate(*model, targets, MeasuredBehind::layers, &text, DType::f32,
                            [](size_t i, const Measurement&) {
                              if (i == 3) throw input_error("enough");
                            }),
                  Error);
  CHECK(same_bytes(logits(), before));
  {
    const Stopping stopping;
    CHECK_THROWS(calibrate(*model, targets, MeasuredBehind::layers, &text, DType::f32, nothing));
  }
  calibrate(*model, targets, MeasuredBehind::layers, &text, DType::f32, nothing);
  CHECK(same_bytes(logits(), before));
}

TEST_CASE("a token outside the vocabulary is refused before anything is changed") {
  const auto model = fresh();
  const std::vector<CalibrationTarget> targets = all_targets(*model);
  for (const int32_t id : {50, -1}) {
    CalibrationText text = calibration_windows();
    text.ids.back() = id;
    CHECK(failure([&] {
            calibrate(*model, targets, MeasuredBehind::layers, &text, DType::f32,
                      [](size_t, const Measurement&) { FAIL("was changed"); });
          }) == fmt::format("3 the calibration text has token {}, outside the model's vocabulary of 50", id));
  }
}
