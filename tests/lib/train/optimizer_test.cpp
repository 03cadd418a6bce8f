// Optimizers as rows: another one than AdamW is a rule and a row, and checkpoints hold what it keeps.
#include "train/optimizer.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/stop.h"
#include "compress/masks.h"
#include "lib/train/runs.h"
#include "support/failure.h"
#include "train/optimizers/adamw.h"

using namespace hone;
using namespace hone::test;

namespace {

// Gradient descent with momentum (Polyak 1964): b = beta1 b + g; value -= rate (b + decay value).
class Momentum : public UpdateRule {
 public:
  explicit Momentum(const OptimizerSettings& settings) : settings_(settings) {}
  std::vector<StateArray> arrays(const Shape& shape) const override { return {{"momentum", shape}}; }
  void apply(const Update& update) const override {
    Parameter& p = update.parameter;
    const float beta = static_cast<float>(settings_.numbers[adamw_beta1]), scale = static_cast<float>(update.scale);
    const float rate = static_cast<float>(update.learning_rate);
    const float decay = p.decay ? static_cast<float>(settings_.weight_decay) : 0.0f;
    float* const momentum = update.state.at("momentum").data<float>();
    for (int64_t i = 0; i < p.value.size(); ++i) {
      momentum[i] = beta * momentum[i] + scale * p.grad.data<float>()[i];
      p.value.data<float>()[i] -= rate * (momentum[i] + decay * p.value.data<float>()[i]);
    }
  }

 private:
  OptimizerSettings settings_;
};

class Plain : public UpdateRule {
 public:
  std::vector<StateArray> arrays(const Shape&) const override { return {}; }
  void apply(const Update& update) const override {
    Parameter& p = update.parameter;
    const float rate = static_cast<float>(update.learning_rate * update.scale);
    for (int64_t i = 0; i < p.value.size(); ++i) p.value.data<float>()[i] -= rate * p.grad.data<float>()[i];
  }
};

// A rule for each kind of parameter.
constexpr OptimizerKind mixed = {"mixed", "Mixed", "",
                                 [](const ParameterInfo& info, const Config& config,
                                    const OptimizerSettings& settings) -> std::shared_ptr<const UpdateRule> {
                                   if (is_linear(info.role) && info.role != Role::head)
                                     return std::make_shared<Momentum>(settings);
                                   if (info.role == Role::gain || info.role == Role::bias)
                                     return std::make_shared<Plain>();
                                   return adamw_rule(info, config, settings);
                                 }};

RunSettings mixed_settings(int64_t steps) {
  RunSettings s = settings(steps);
  s.step.optimizer.kind = &mixed;
  s.step.schedule.peak = 0.01;
  return s;
}

// The checkpoint of a run under `s`, interrupted before step 7.
ModelFile interrupted(const std::string& path, RunSettings s) {
  Model model = fresh();
  s.checkpoint = path;
  s.before_step = [](int64_t step) {
    if (step == 7) raise_stop(2);
  };
  run_training(model, text(), nullptr, s);
  raise_stop(0);
  ModelFile rest;
  load_model(path, {.run = true}, &rest);
  return rest;
}

ErrorKind refusal(const std::string& path, const ModelFile& checkpoint, const RunSettings& s) {
  Model model = load_model(path);
  return kind_of_failure([&] { run_training(model, text(), nullptr, s, &checkpoint); });
}

}  // namespace

TEST_CASE("each parameter follows the rule that the optimizer has for its kind") {
  Model model = fresh();
  const Optimizer optimizer(*model.transformer, mixed_settings(5).step.optimizer);
  const auto state = optimizer.state();
  CHECK(optimizer.name() == "mixed");
  for (const char* name : {"blocks.0.attention.qkv.weight.momentum", "blocks.1.feed_forward.down.weight.momentum",
                           "embedding.weight.m", "embedding.weight.v"}) {
    CAPTURE(name);
    CHECK(state.contains(name));
  }
  for (const auto& [name, tensor] : state) {
    CAPTURE(name);
    CHECK(name.find("gain") == std::string::npos);
    CHECK(name.ends_with(".momentum") == (name.starts_with("blocks.")));
    for (const float x : tensor.span<float>()) REQUIRE(x == 0.0f);
  }
}

TEST_CASE("a step is the rule's: gradient descent with momentum, by hand") {
  Model model = fresh();
  OptimizerSettings s = mixed_settings(5).step.optimizer;
  s.numbers.set(adamw_beta1, 0.5);
  s.weight_decay = 0.1;
  Optimizer optimizer(*model.transformer, s);
  struct Find : Visitor {
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      if (info.name == "blocks.0.attention.qkv.weight") found = weight->parameter();
    }
    void parameter(const ParameterInfo&, Parameter&) override {}
    Parameter* found = nullptr;
  } find;
  model.transformer->visit(find);
  Parameter& p = *find.found;
  const float before = p.value.data<float>()[0];
  const auto step_with = [&](float gradient) {
    for (float& g : gradient_to_add(p).span<float>()) g = gradient;
    optimizer.step(0.1, 0.5);
  };
  step_with(2);  // momentum 1
  const float decay = p.decay ? 0.1f : 0.0f, once = before - 0.1f * (1 + decay * before);
  CHECK(p.value.data<float>()[0] == doctest::Approx(once));
  CHECK(!p.has_grad);
  step_with(4);  // momentum 0.5 + 2
  CHECK(p.value.data<float>()[0] == doctest::Approx(once - 0.1f * (2.5f + decay * once)));
  CHECK(optimizer.steps() == 2);
}

TEST_CASE("another optimizer trains, and resumes as if it had never stopped") {
  const std::string path = "train_test_mixed.h5";
  Model straight = fresh();
  const RunResult whole = run_training(straight, text(), nullptr, mixed_settings(30));
  CHECK(whole.loss < 5.0);  // from 5.5
  const ModelFile rest = interrupted(path, mixed_settings(30));
  CHECK(rest.run->at("optimizer") == "mixed");
  CHECK(rest.run_arrays.contains("optimizer.blocks.0.attention.qkv.weight.momentum"));
  CHECK(!rest.run_arrays.contains("optimizer.blocks.0.attention.qkv.weight.m"));
  Model resumed = load_model(path);
  CHECK(run_training(resumed, text(), nullptr, mixed_settings(30), &rest).steps == 30);
  CHECK(equal(after(straight), after(resumed)));
  std::remove(path.c_str());
}

TEST_CASE("AdamW's checkpoints are what they were: its moments, and no name") {
  const std::string path = "train_test_adamw.h5";
  const ModelFile rest = interrupted(path, settings(20));
  CHECK(!rest.run->contains("optimizer"));
  size_t arrays = 0;
  for (const auto& [name, tensor] : rest.run_arrays) {
    CAPTURE(name);
    CHECK(name.starts_with("optimizer."));
    CHECK((name.ends_with(".m") || name.ends_with(".v")));
    ++arrays;
  }
  Model model = fresh();
  CHECK(arrays == 2 * after(model).size());
  std::remove(path.c_str());
}

TEST_CASE("a checkpoint of an unknown or another optimizer, or without its state, is refused") {
  const std::string path = "train_test_refused.h5";
  const ModelFile good = interrupted(path, settings(20));
  CHECK(refusal(path, good, mixed_settings(20)) == ErrorKind::usage);
  ModelFile unknown = good;
  (*unknown.run)["optimizer"] = "lion";
  CHECK(refusal(path, unknown, settings(20)) == ErrorKind::input);
  (*unknown.run)["optimizer"] = 7;
  CHECK(refusal(path, unknown, settings(20)) == ErrorKind::input);
  ModelFile missing = good;
  REQUIRE(missing.run_arrays.erase("optimizer.norm.gain.v") == 1);
  CHECK(refusal(path, missing, settings(20)) == ErrorKind::input);
  ModelFile other_shape = good;
  Tensor& array = other_shape.run_arrays.at("optimizer.norm.gain.v");
  array = Tensor::zeros({array.size() + 1});
  CHECK(refusal(path, other_shape, settings(20)) == ErrorKind::input);
  const ModelFile of_mixed = interrupted(path, mixed_settings(20));
  CHECK(refusal(path, of_mixed, settings(20)) == ErrorKind::input);  // a row of this test's own
  std::remove(path.c_str());
}
