// Plans of recomputation: the memory of a step as the pool counts it, and as shapes foretell it.
#include "nn/recompute.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "base/error.h"
#include "lib/train/runs.h"
#include "measure/footprint.h"
#include "model/depth_routers.h"
#include "model/exits.h"

using namespace hone;
using namespace hone::test;

namespace {

Config deep_config(ActivationKind activation) {
  Config c = small_config();
  c.vocabulary = c.padded_vocabulary = 256;
  c.block.dim = 128;
  c.block.head_dim = 32;
  c.block.activation = activation;
  c.layers.assign(8, {4, 4, activation == activation_named("gelu") ? 512 : 344, "full"});
  return c;
}

struct Measured {
  int64_t activations = 0, stays = 0;  // bytes
};

Measured measured(const Config& config, const TrainingShape& shape) {
  release_pool();  // what other sizes have left there would serve instead of what is asked for
  const size_t empty = pool_used_bytes();
  Transformer model(config);
  initialize(model, 1);
  StepSettings s = settings(5).step;
  s.batch = shape.batch;
  s.type = shape.type;
  s.recompute = shape.recompute;
  s.router.capacity_factor = shape.capacity;
  if (shape.exits > 0) s.objectives.exits.weight = 0.5f;
  TextBatches sampler(BatchSampler(text(), shape.context, 1));
  Trainer trainer(model, sampler, s);
  trainer.step(0);  // makes what stays: gradients, copies of the weights
  const size_t before = pool_used_bytes();
  const StepResult result = trainer.step(1);
  CHECK(pool_used_bytes() == before);
  CHECK(static_cast<size_t>(result.activation_bytes) == pool_peak_bytes() - before);
  return {result.activation_bytes, static_cast<int64_t>(before - empty)};
}

int64_t measured(const Config& config, const char* plan, DType type) {
  return measured(config, {6, 96, type, 0, recompute_plan(plan)}).activations;
}

void check_foretold(const Config& config, const TrainingShape& shape) {
  CAPTURE(to_string(shape.recompute));
  CAPTURE(name_of(shape.type));
  CAPTURE(shape.batch);
  const Measured took = measured(config, shape);
  CHECK(static_cast<double>(took.activations) / activation_bytes(config, shape) == doctest::Approx(1).epsilon(0.05));
  const Footprint all = training_footprint(config, shape, optimizer_bytes(config, {}));
  CHECK(static_cast<double>(took.stays) / (all.parameters + all.optimizer) == doctest::Approx(1).epsilon(0.05));
}

}  // namespace

TEST_CASE("a step takes the memory that its shape foretells, whatever the plan") {
  bool wide = false;  // each plan in one type with either activation, in turn
  for (const RecomputePlan& plan : recompute_plans(3)) {
    check_foretold(deep_config(activation_named("gelu")), {6, 96, wide ? DType::f32 : DType::bf16, 0, plan});
    check_foretold(deep_config(activation_named("swiglu")), {6, 96, wide ? DType::bf16 : DType::f32, 0, plan});
    wide = !wide;
  }
}

TEST_CASE("and where arrays are large, so that the pool rounds them up to 2 MiB") {
  Config config = deep_config(activation_named("swiglu"));
  config.layers.resize(3);
  config.layers[1].kv_heads = 2;
  bool wide = false;  // each plan with either batch, in one type
  for (const RecomputePlan& plan : recompute_plans(1)) {
    check_foretold(config, {25, 96, wide ? DType::f32 : DType::bf16, 0, plan});
    check_foretold(config, {47, 96, wide ? DType::bf16 : DType::f32, 0, plan});
    wide = !wide;
  }
  config.block.dim = 800;  // weights of 2.5 and 2.1 MB
  config.layers.resize(2);
  config.layers[1].ffn = 0;
  check_foretold(config, {3, 96, DType::bf16});
}

TEST_CASE("and with norms of queries and keys and soft caps") {
  Config config = deep_config(activation_named("swiglu"));
  config.layers.resize(3);
  config.logit_softcap = 30;
  for (LayerBlueprint& layer : config.layers) {
    layer.qk_norm = true;
    layer.score = "softcap:50";
  }
  for (const DType type : {DType::f32, DType::bf16})
    for (const char* plan : {"none", "attention", "blocks"})
      check_foretold(config, {6, 96, type, 0, recompute_plan(plan)});
}

TEST_CASE("and with short convolutions in place of attention") {
  Config config = deep_config(activation_named("swiglu"));
  config.layers.resize(3);
  set_attention(config, "conv:4,conv:4,full");
  for (const DType type : {DType::f32, DType::bf16})
    for (const RecomputePlan& plan : recompute_plans(1)) check_foretold(config, {6, 96, type, 0, plan});
}

TEST_CASE("and with exits, about") {
  Config config = deep_config(activation_named("swiglu"));
  set_exits(config, std::vector<int64_t>{2, 5});
  for (const DType type : {DType::f32, DType::bf16})
    for (const char* plan : {"none", "blocks", "feed_forward"}) {
      CAPTURE(plan);
      const TrainingShape shape = {6, 96, type, 0, recompute_plan(plan), 2};
      const auto took = static_cast<double>(measured(config, shape).activations);
      CHECK(took / activation_bytes(config, shape) == doctest::Approx(1).epsilon(0.1));
    }
}

TEST_CASE("and of layers that some tokens pass by, about") {
  Config config = deep_config(activation_named("swiglu"));
  set_depth_routers(config, std::vector<int64_t>{1, 3, 5, 7}, 0.5);
  bool wide = false;
  for (const char* plan : {"none", "blocks", "feed_forward", "attention", "every:3"}) {
    CAPTURE(plan);
    const TrainingShape shape = {6, 96, wide ? DType::f32 : DType::bf16, 0, recompute_plan(plan)};
    const auto took = static_cast<double>(measured(config, shape).activations);
    CHECK(took / activation_bytes(config, shape) == doctest::Approx(1).epsilon(0.1));
    wide = !wide;
  }
}

TEST_CASE("and of mixtures of experts") {
  Config config = deep_config(activation_named("gelu"));
  config.layers.resize(3);
  config.layers[0].experts = config.layers[2].experts = 4;
  config.layers[0].top_k = config.layers[2].top_k = 2;
  config.layers[2].shared_experts = 1;
  config.layers[2].shared_gate = true;
  for (const char* plan : {"none", "feed_forward", "blocks"})
    check_foretold(config, {25, 96, DType::bf16, 0, recompute_plan(plan)});
}

TEST_CASE("computing blocks again takes a third of the memory") {
  const Config config = deep_config(activation_named("gelu"));
  const int64_t all = measured(config, "none", DType::bf16);
  CHECK(measured(config, "blocks", DType::bf16) * 3 < all);
  CHECK(measured(config, "feed_forward", DType::bf16) * 3 < all * 2);
}

TEST_CASE("plans have names, and cover every half once") {
  const std::vector<RecomputePlan> all = recompute_plans(4);
  CHECK(all.size() > 4);
  for (const RecomputePlan& plan : all) {
    CAPTURE(to_string(plan));
    CHECK(recompute_plan(to_string(plan)) == plan);
    CHECK(std::ranges::count(all, plan) == 1);
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
