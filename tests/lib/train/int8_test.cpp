// Training whose layers multiply in 8 bits.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>

#include "base/stop.h"
#include "kernels/parallel.h"
#include "lib/train/runs.h"

using namespace hone;
using namespace hone::test;

namespace {

RunSettings in_eight_bits(int64_t steps) {
  RunSettings s = settings(steps);
  s.step.type = DType::bf16;
  s.step.eight_bits = true;
  return s;
}

std::map<std::string, Tensor> trained_by(int threads, const RunSettings& run) {
  const int before = kernels::threads();
  kernels::set_threads(threads);
  Model model = fresh();
  run_training(model, text(), nullptr, run);
  kernels::set_threads(before);
  return after(model);
}

}  // namespace

TEST_CASE("training in 8 bits lowers the loss as bf16 does, the same way each time") {
  RunSettings halves = in_eight_bits(60);
  halves.step.eight_bits = false;
  Model first = fresh(), second = fresh(), other = fresh();
  const RunResult result = run_training(first, text(), nullptr, in_eight_bits(60));
  run_training(second, text(), nullptr, in_eight_bits(60));
  const RunResult in_halves = run_training(other, text(), nullptr, halves);
  CHECK(result.loss < 4.0);
  CHECK(std::abs(result.loss - in_halves.loss) < 0.2);
  CHECK(equal(after(first), after(second)));
  CHECK_FALSE(equal(after(first), after(other)));
}

TEST_CASE("training in 8 bits has the same bits on one thread and on two where bf16 has") {
  RunSettings halves = in_eight_bits(10);
  halves.step.eight_bits = false;
  if (!equal(trained_by(1, halves), trained_by(2, halves))) return;
  CHECK(equal(trained_by(1, in_eight_bits(10)), trained_by(2, in_eight_bits(10))));
}

TEST_CASE("training in 8 bits: recomputing changes no bit, each seed draws anew") {
  const auto kept = trained_by(2, in_eight_bits(5));
  for (const char* plan : {"blocks", "attention", "feed_forward"}) {
    CAPTURE(plan);
    RunSettings again = in_eight_bits(5);
    again.step.recompute = recompute_plan(plan);
    CHECK(equal(kept, trained_by(2, again)));
  }
  RunSettings seeds = in_eight_bits(5);
  seeds.step.dropout = 0;
  const auto one = trained_by(2, seeds);
  seeds.step.seed = 2;
  CHECK_FALSE(equal(one, trained_by(2, seeds)));
}

TEST_CASE("a run in 8 bits stopped by a signal and resumed equals one that never stopped") {
  const std::string path = "int8_test_run.h5";
  Model straight = fresh(), stopped = fresh();
  run_training(straight, text(), nullptr, in_eight_bits(20));
  RunSettings s = in_eight_bits(20);
  s.checkpoint = path;
  s.before_step = [](int64_t step) {
    if (step == 9) raise_stop(15);
  };
  CHECK(run_training(stopped, text(), nullptr, s).signal == 15);
  raise_stop(0);
  ModelFile rest;
  ReadOptions read;
  read.run = true;
  Model resumed = load_model(path, read, &rest);
  run_training(resumed, text(), nullptr, in_eight_bits(20), &rest);
  CHECK(equal(after(straight), after(resumed)));
  std::remove(path.c_str());
}

TEST_CASE("a mixture trains in 8 bits: its experts too, its router as ever") {
  Config c = small_config();
  c.vocabulary = c.padded_vocabulary = 256;
  for (LayerBlueprint& layer : c.layers) {
    layer.experts = 4;
    layer.top_k = 2;
    layer.ffn = 32;
  }
  double losses[2];
  for (const bool eight_bits : {false, true}) {
    Model model;
    model.transformer = std::make_unique<Transformer>(c);
    initialize(*model.transformer, 1);
    RunSettings s = in_eight_bits(40);
    s.step.eight_bits = eight_bits;
    losses[eight_bits] = run_training(model, text(), nullptr, s).loss;
  }
  CHECK(losses[true] < 5.0);
  CHECK(std::abs(losses[true] - losses[false]) < 0.3);
  CHECK(losses[true] != losses[false]);
}
