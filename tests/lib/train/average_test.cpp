#include "train/average.h"

#include <doctest/doctest.h>

#include "base/error.h"
#include "base/stop.h"
#include "lib/train/runs.h"

using namespace hone;
using namespace hone::test;

namespace {

RunSettings averaged(int64_t steps) {
  RunSettings s = settings(steps);
  s.average = average_rule("ema:0.9");
  return s;
}

struct Embedding : Visitor {
  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    if (info.name == "embedding.weight") found = weight->parameter();
  }
  void parameter(const ParameterInfo&, Parameter&) override {}
  Parameter* found = nullptr;
};

}  // namespace

TEST_CASE("averages have names") {
  for (const char* name : {"ema:0.999", "tail:0.25", ""}) CHECK(to_string(average_rule(name)) == name);
  for (const char* wrong : {"ema", "ema:", "ema:0", "ema:1", "ema:x", "tail:0", "tail:1.5", "mean:0.5"})
    CHECK_THROWS_AS(average_rule(wrong), Error);
}

TEST_CASE("each kind of average has its name and range, and keeps a part of itself") {
  for (const AverageKind& kind : average_kinds()) {
    CAPTURE(kind.form);
    const std::string name(kind.form.substr(0, kind.form.find(':')));
    const AverageRule rule = average_rule(fmt::format("{}:{}", name, (kind.above + kind.below) / 2));
    CHECK(rule.kind == &kind);
    CHECK(average_rule(to_string(rule)) == rule);
    for (const double outside : {kind.above, kind.below})
      CHECK_THROWS_AS(average_rule(fmt::format("{}:{}", name, outside)), Error);
    for (int64_t step = 1; step <= 20; ++step) {
      const double kept = kind.kept(rule.number, step, 20);
      CHECK(kept >= 0);
      CHECK(kept < 1);
    }
  }
}

TEST_CASE("the average of the tail is the parameters before it, and the mean of them in it") {
  Model model = fresh();
  ParameterAverage average(*model.transformer, average_rule("tail:0.4"), 20);
  Embedding find;
  model.transformer->visit(find);
  for (int64_t step = 1; step <= 20; ++step) {
    find.found->value.data<float>()[0] = static_cast<float>(step * step);
    average.add(step);
    double sum = 0, count = 0;
    for (int64_t i = std::min<int64_t>(step, 13); i <= step; ++i, ++count) sum += static_cast<double>(i * i);
    CHECK(average.state().at("embedding.weight").tensor.data<float>()[0] == doctest::Approx(sum / count));
  }
}

TEST_CASE("an average follows the parameters, the beginning soon forgotten") {
  Model model = fresh();
  ParameterAverage average(*model.transformer, average_rule("ema:0.5"), 20);
  const std::string name = "embedding.weight";
  const Tensor values = after(model).at(name);
  Embedding find;
  model.transformer->visit(find);
  float expected = values.data<float>()[0];
  for (int64_t step = 1; step <= 20; ++step) {
    find.found->value.data<float>()[0] = static_cast<float>(step);
    average.add(step);
    const float decay = std::min(0.5f, (1.0f + static_cast<float>(step)) / (10.0f + static_cast<float>(step)));
    expected = decay * expected + (1 - decay) * static_cast<float>(step);
    CHECK(average.state().at(name).tensor.data<float>()[0] == doctest::Approx(expected));
  }
  const uint64_t version = find.found->version;
  average.exchange();
  CHECK(find.found->value.data<float>()[0] == doctest::Approx(expected));
  CHECK(find.found->version > version);
  average.exchange();
  CHECK(find.found->value.data<float>()[0] == 20.0f);
}

TEST_CASE("a run ends with the average, trains as without one, and resumes exactly") {
  const std::string path = "train_test_average.h5";
  const Corpus valid = text();
  Model plain = fresh(), straight = fresh();
  run_training(plain, text(), &valid, settings(20));
  const RunResult whole = run_training(straight, text(), &valid, averaged(20));
  CHECK(!equal(after(plain), after(straight)));
  Model stopped = fresh();
  RunSettings s = averaged(20);
  s.checkpoint = path;
  s.before_step = [](int64_t step) {
    if (step == 12) raise_stop(2);
  };
  run_training(stopped, text(), &valid, s);
  raise_stop(0);
  ModelFile rest;
  Model resumed = load_model(path, {.run = true}, &rest);
  const RunResult end = run_training(resumed, text(), &valid, averaged(20), &rest);
  CHECK(equal(after(straight), after(resumed)));
  CHECK(end.valid_loss == whole.valid_loss);
  CHECK(end.loss == whole.loss);
  std::remove(path.c_str());
}

TEST_CASE("the better of parameters and average is kept") {
  const Corpus valid = text();
  const auto loss_with = [&](const char* average, double rate) {
    Model model = fresh();
    RunSettings s = settings(30);
    s.step.schedule = {&schedule_named("constant"), rate, 1, 0, 30, 0};
    s.average = average_rule(average);
    s.keep_best = true;
    s.valid_every = 10;
    return *run_training(model, text(), &valid, s).valid_loss;
  };
  // A high constant rate: the average is better. One of the beginning alone: the parameters are.
  CHECK(loss_with("ema:0.9", 0.01) <= loss_with("", 0.01));
  CHECK(loss_with("ema:0.99999", 0.001) <= loss_with("", 0.001));
  CHECK(loss_with("tail:0.3", 0.01) <= loss_with("", 0.01));
}
