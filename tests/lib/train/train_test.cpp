#include <doctest/doctest.h>

#include <cmath>

#include "base/error.h"
#include "base/stop.h"
#include "compress/masks.h"
#include "dataset/corpus.h"
#include "lib/train/runs.h"
#include "support/masks.h"
#include "support/turns.h"

using namespace hone;
using namespace hone::test;

TEST_CASE("training lowers the loss, the same way each time") {
  Model first = fresh(), second = fresh();
  const RunResult result = run_training(first, text(), nullptr, settings(60));
  CHECK(result.loss < 4.0);
  CHECK(result.steps == 60);
  CHECK(result.tokens == 60 * 4 * 32);
  run_training(second, text(), nullptr, settings(60));
  CHECK(equal(after(first), after(second)));
}

TEST_CASE("no memory is taken from the system in the steady state") {
  Model model = fresh();
  const Corpus corpus = text();
  TextBatches sampler(BatchSampler(corpus, 32, 1));
  StepSettings s = settings(10).step;
  Trainer trainer(*model.transformer, sampler, s);
  trainer.step(0);
  trainer.step(1);
  const size_t before = pool_system_allocations();
  for (int64_t i = 2; i < 8; ++i) trainer.step(i);
  CHECK(pool_system_allocations() == before);
}

TEST_CASE("accumulated batches are as good as one large batch") {
  Model large = fresh(), small = fresh();
  const Corpus corpus = text();
  StepSettings s = settings(10).step;
  s.dropout = 0;
  TextBatches a(BatchSampler(corpus, 32, 1)), b(BatchSampler(corpus, 32, 1));
  Trainer(*large.transformer, a, s).step(0);
  s.batch = 2;
  s.accumulate = 2;
  Trainer(*small.transformer, b, s).step(0);
  const auto x = after(large), y = after(small);
  for (const auto& [name, tensor] : x) CHECK(relative_error(y.at(name), tensor) < 1e-3);
}

TEST_CASE("a run stopped by a signal and resumed equals one that never stopped") {
  const std::string path = "train_test_run.h5";
  Model straight = fresh();
  run_training(straight, text(), nullptr, settings(30));
  Model stopped = fresh();
  RunSettings s = settings(30);
  s.checkpoint = path;
  s.before_step = [](int64_t step) {
    if (step == 12) raise_stop(2);
  };
  const RunResult half = run_training(stopped, text(), nullptr, s);
  raise_stop(0);
  CHECK(half.signal == 2);
  CHECK(half.steps == 12);  // what was begun is dropped
  CHECK(half.checkpoint_saved);
  ModelFile rest;
  ReadOptions read;
  read.run = true;
  Model resumed = load_model(path, read, &rest);
  CHECK_THROWS_AS(run_training(resumed, text(), nullptr, settings(31), &rest), Error);
  const RunResult end = run_training(resumed, text(), nullptr, settings(30), &rest);
  CHECK(end.steps == 30);
  CHECK(equal(after(straight), after(resumed)));
  std::remove(path.c_str());
}

TEST_CASE("masks stay exact through updates") {
  Model model = fresh();
  struct Masker : Visitor {
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      if (!is_linear(info.role)) return;
      const Bitmask mask = mask_of_nonzeros(random_tensor({weight->rows(), weight->cols()}, 3));
      Random random(1, info.name);
      for (uint8_t& byte : mask.bits().span<uint8_t>()) byte &= static_cast<uint8_t>(random.next());
      weight->set_mask(mask);
      masks[info.name] = mask;
    }
    void parameter(const ParameterInfo&, Parameter&) override {}
    std::map<std::string, Bitmask> masks;
  } masker;
  model.transformer->visit(masker);
  const int64_t before = size_of(*model.transformer).nonzero_parameters;
  run_training(model, text(), nullptr, settings(20));
  CHECK(size_of(*model.transformer).nonzero_parameters == before);
  for (const auto& [name, values] : after(model))
    if (masker.masks.contains(name)) {
      const Tensor kept = expand_mask(masker.masks[name]);
      for (int64_t i = 0; i < values.size(); ++i)
        if (!kept.data<uint8_t>()[i]) REQUIRE(values.data<float>()[i] == 0.0f);
    }
}

TEST_CASE("a loss that explodes or is not finite ends the run as diverged") {
  Model model = fresh();
  RunSettings s = settings(200);
  s.step.schedule.peak = 1e4;
  s.step.schedule.warmup = 0;
  s.step.clip = 0;
  try {
    run_training(model, text(), nullptr, s);
    FAIL("did not diverge");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::diverged);
  }
}

TEST_CASE("schedules") {
  const Schedule cosine{&schedule_named("cosine"), 1.0, 0.1, 10, 110, 0.2};
  CHECK(cosine.at(0) == doctest::Approx(0.1));
  CHECK(cosine.at(9) == doctest::Approx(1.0));
  CHECK(cosine.at(60) == doctest::Approx(0.55));
  CHECK(cosine.at(109) == doctest::Approx(0.1).epsilon(0.01));
  const Schedule wsd{&schedule_named("wsd"), 1.0, 0.0, 10, 100, 0.2};
  CHECK(wsd.at(79) == 1.0);
  CHECK(wsd.at(90) == doctest::Approx(0.5));
  const Schedule constant{&schedule_named("constant"), 2.0, 0.1, 0, 100, 0.2};
  CHECK(constant.at(99) == 2.0);
  CHECK_THROWS_AS(schedule_named("no schedule"), Error);
  for (const ScheduleKind& kind : schedule_kinds()) {
    CAPTURE(std::string(kind.name));
    CHECK(&schedule_named(std::string(kind.name)) == &kind);
    Schedule s{&kind, 3.0, 0.25, 10, 100, 0.5};
    CHECK(s.at(4) == 1.5);
    CHECK(s.at(10) == 3.0);
    CHECK(s.at(99) == doctest::Approx(kind.falls ? 0.75 : 3).epsilon(0.05));
    double before = s.at(10);
    for (int64_t step = 11; step < 100; ++step) {
      CHECK(s.at(step) <= before);
      before = s.at(step);
    }
    const double middle = s.at(70);
    s.decay = 0.2;
    CHECK((s.at(70) != middle) == kind.falls_late);
  }
}

namespace {

Model fresh_mixture(int64_t top_k = 2) {
  Config c = small_config();
  c.vocabulary = c.padded_vocabulary = 256;
  for (LayerBlueprint& layer : c.layers) {
    layer.experts = 4;
    layer.top_k = top_k;
    layer.ffn = 32;
  }
  Model model;
  model.transformer = std::make_unique<Transformer>(c);
  initialize(*model.transformer, 1);
  return model;
}

RunSettings mixture_settings(int64_t steps) {
  RunSettings s = settings(steps);
  s.step.router.noise = RouterNoise::gumbel;
  s.step.router.temperature_from = 2;
  s.step.router.temperature_to = 0.5;
  s.step.router.balance_weight = 0.01;
  s.step.router.bias_rate = 0.01;
  s.step.router.z_weight = 1e-3;
  return s;
}

}  // namespace

TEST_CASE("a mixture trains; stopped and resumed it equals one that never stopped, noise and balance included") {
  const std::string path = "train_test_mixture.h5";
  Model straight = fresh_mixture();
  const RunResult whole = run_training(straight, text(), nullptr, mixture_settings(30));
  CHECK(whole.loss < 5.0);
  Model stopped = fresh_mixture();
  RunSettings s = mixture_settings(30);
  s.checkpoint = path;
  s.before_step = [](int64_t step) {
    if (step == 12) raise_stop(2);
  };
  run_training(stopped, text(), nullptr, s);
  raise_stop(0);
  ModelFile rest;
  ReadOptions read;
  read.run = true;
  Model resumed = load_model(path, read, &rest);
  run_training(resumed, text(), nullptr, mixture_settings(30), &rest);
  CHECK(equal(after(straight), after(resumed)));
  double moved = 0;
  const Tensor bias = after(straight).at("blocks.0.feed_forward.router.bias");
  for (const float b : bias.span<float>()) moved += std::abs(static_cast<double>(b));
  CHECK(moved > 0);
  std::remove(path.c_str());
}

TEST_CASE("a step of a mixture reports its routing, and takes no memory from the system in the steady state") {
  Model model = fresh_mixture();
  const Corpus corpus = text();
  TextBatches sampler(BatchSampler(corpus, 32, 1));
  StepSettings s = mixture_settings(10).step;
  s.accumulate = 2;
  Trainer trainer(*model.transformer, sampler, s);
  trainer.step(0);
  trainer.step(1);
  const size_t before = pool_system_allocations();
  for (int64_t i = 2; i < 8; ++i) {
    const StepResult result = trainer.step(i);
    REQUIRE(result.routing.size() == 2);
    for (const LayerRouting& layer : result.routing) {
      CHECK(layer.tokens == 2 * 4 * 32);
      CHECK(layer.mean_load() == doctest::Approx(2 * 4 * 32 * 2 / 4));
      CHECK(layer.dropped == 0);
    }
    double added = 0;
    for (const LayerRouting& layer : result.routing) added += (layer.balance_loss + layer.z_loss) / 2;
    CHECK(result.router_loss == doctest::Approx(added).epsilon(1e-5));
    CHECK(result.router_loss > 0.01);
  }
  CHECK(pool_system_allocations() == before);
}

TEST_CASE("selection biases move once a step, by the load of all its batches") {
  const Corpus corpus = text();
  const auto run = [&](int64_t accumulate, StepResult& result) {
    Model model = fresh_mixture();
    TextBatches sampler(BatchSampler(corpus, 32, 1));
    StepSettings s = settings(10).step;
    s.accumulate = accumulate;
    s.batch = 12 / accumulate;
    s.dropout = 0;
    s.schedule.peak = 0;
    s.router.bias_rate = 0.01;
    Trainer trainer(*model.transformer, sampler, s);
    result = trainer.step(0);
    return after(model).at("blocks.0.feed_forward.router.bias");
  };
  StepResult whole, parts;
  const Tensor expected = run(1, whole), bias = run(3, parts);
  REQUIRE(whole.routing[0].load == parts.routing[0].load);  // the same tokens, by the same router
  for (int64_t e = 0; e < bias.size(); ++e) {
    CHECK(bias.data<float>()[e] == expected.data<float>()[e]);
    CHECK(std::abs(bias.data<float>()[e]) <= 0.01f);
  }
}

TEST_CASE("a capacity drops tokens and reports how many") {
  Model model = fresh_mixture(1);
  const Corpus corpus = text();
  TextBatches sampler(BatchSampler(corpus, 32, 1));
  StepSettings s = settings(10).step;
  s.router.capacity_factor = 0.5;
  const StepResult result = Trainer(*model.transformer, sampler, s).step(0);
  for (const LayerRouting& layer : result.routing) CHECK(layer.dropped >= 64);  // 4 experts of 16 tokens, of 128
}

TEST_CASE("selection biases even out the load that no balancing leaves uneven") {
  const auto largest = [](double rate) {
    Model model = fresh_mixture(1);
    for (Block& block : model.transformer->blocks()) block.feed_forward->balance({0, 9, 9, 9}, 0.12);  // begins uneven
    const Corpus corpus = text();
    TextBatches sampler(BatchSampler(corpus, 32, 1));
    StepSettings s = settings(60).step;
    s.schedule.peak = 0;
    s.router.bias_rate = rate;
    Trainer trainer(*model.transformer, sampler, s);
    double result = 0;
    for (int64_t i = 0; i < 60; ++i) result = trainer.step(i).routing[0].largest_over_mean();
    return result;
  };
  CHECK(largest(0) > 3);
  CHECK(largest(0.005) < 1.9);
}

TEST_CASE("recomputing blocks changes no bit of training, dropout and noisy routers included") {
  const auto trained = [](const char* recompute) {
    Model model = fresh_mixture();
    RunSettings s = mixture_settings(rounds_of(6, 2));
    s.step.recompute = recompute_plan(recompute);
    s.step.dropout = 0.1f;
    s.step.accumulate = 2;
    s.step.router.noise = RouterNoise::gumbel;
    s.step.router.balance_weight = 0.05;
    s.step.router.z_weight = 0.01;
    run_training(model, text(), nullptr, s);
    return after(model);
  };
  const auto kept = trained("none");
  for (const char* plan : {"blocks", "every:2", "attention", "feed_forward"}) {
    CAPTURE(plan);
    CHECK(equal(kept, trained(plan)));
  }
}

TEST_CASE("a router that is not finite ends the run as diverged and names the layer") {
  Model model = fresh_mixture();
  RunSettings s = mixture_settings(10);
  s.before_step = [&](int64_t step) {
    struct Breaker : Visitor {
      void weight(const ParameterInfo&, std::shared_ptr<Weight>&) override {}
      void parameter(const ParameterInfo& info, Parameter& parameter) override {
        if (info.name == "blocks.1.feed_forward.router.weight") parameter.value.data<float>()[5] = INFINITY;
      }
    } breaker;
    if (step == 3) model.transformer->visit(breaker);
  };
  try {
    run_training(model, text(), nullptr, s);
    FAIL("did not stop");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::diverged);
    CHECK(std::string(error.what()).find("layer 1") != std::string::npos);
    CHECK(std::string(error.what()).find("step 4") != std::string::npos);
  }
}

TEST_CASE("temperatures fall geometrically from the first step to the last") {
  RouterTraining r;
  r.temperature_from = 2;
  r.temperature_to = 0.5;
  CHECK(r.temperature(0, 101) == doctest::Approx(2));
  CHECK(r.temperature(50, 101) == doctest::Approx(1));
  CHECK(r.temperature(100, 101) == doctest::Approx(0.5));
}
