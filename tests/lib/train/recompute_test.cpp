// Plans of recomputation: the memory of a step as the pool counts it, and as shapes foretell it.
#include "nn/recompute.h"

#include <doctest/doctest.h>

#include "base/error.h"
#include "lib/train/runs.h"
#include "measure/activations.h"

using namespace hone;
using namespace hone::test;

namespace {

Config deep_config(ActivationKind activation) {
  Config c = small_config();
  c.vocabulary = c.padded_vocabulary = 256;
  c.block.dim = 128;
  c.block.head_dim = 32;
  c.block.activation = activation;
  c.layers.assign(8, {4, 4, activation == ActivationKind::gelu ? 512 : 344, "full"});
  return c;
}

int64_t measured(const Config& config, const char* plan, DType type) {
  Transformer model(config);
  initialize(model, 1);
  StepSettings s = settings(5).step;
  s.batch = 6;  // no array of 2 MiB, to which larger ones are rounded up
  s.type = type;
  s.recompute = recompute_plan(plan);
  TextBatches sampler(BatchSampler(text(), 96, 1));
  Trainer trainer(model, sampler, s);
  trainer.step(0);  // makes what stays: gradients, copies of the weights
  const size_t before = pool_used_bytes();
  const StepResult result = trainer.step(1);
  CHECK(pool_used_bytes() == before);
  CHECK(static_cast<size_t>(result.activation_bytes) == pool_peak_bytes() - before);
  return result.activation_bytes;
}

}  // namespace

TEST_CASE("a step takes the memory that its shape foretells, whatever the plan") {
  for (const ActivationKind activation : {ActivationKind::gelu, ActivationKind::swiglu})
    for (const DType type : {DType::f32, DType::bf16})
      for (const char* plan : {"none", "attention", "feed_forward", "blocks", "every:3"}) {
        CAPTURE(plan);
        const Config config = deep_config(activation);
        const double bytes = activation_bytes(config, {6, 96, type, 0, recompute_plan(plan)});
        CHECK(static_cast<double>(measured(config, plan, type)) / bytes == doctest::Approx(1).epsilon(0.1));
      }
}

TEST_CASE("computing blocks again takes a third of the memory") {
  const Config config = deep_config(ActivationKind::gelu);
  const int64_t all = measured(config, "none", DType::bf16);
  CHECK(measured(config, "blocks", DType::bf16) * 3 < all);
  CHECK(measured(config, "feed_forward", DType::bf16) * 3 < all * 2);
}

TEST_CASE("plans have names, and cover every half once") {
  for (const char* name : {"none", "attention", "feed_forward", "blocks", "every:4"}) {
    const RecomputePlan plan = recompute_plan(name);
    CHECK(to_string(plan) == name);
    int64_t half = 2;
    for (const Stretch& stretch : plan.stretches(1, 7)) {
      CHECK(stretch.from == half);
      CHECK(stretch.to > stretch.from);
      half = stretch.to;
    }
    CHECK(half == 14);
  }
  CHECK(recompute_plan("every:1") == recompute_plan("blocks"));
  CHECK(recompute_plan("every:4").stretches(0, 6).back() == Stretch{8, 12, true});
  for (const char* wrong : {"", "all", "every:", "every:0", "every:-1", "every:2x", "Blocks"})
    CHECK_THROWS_AS(recompute_plan(wrong), Error);
}
