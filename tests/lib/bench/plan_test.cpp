#include "bench/plan.h"

#include <doctest/doctest.h>

#include "base/error.h"
#include "measure/speed.h"
#include "model/division.h"
#include "model/size.h"
#include "model/transformer.h"
#include "train/optimizer.h"

using namespace hone;

namespace {

Config shape() {
  Config c = preset("nano");
  c.layers.resize(4);
  c.context = 128;
  return c;
}

const PlanMachine machine = {.flops = 1e11, .bandwidth = 1e10, .network = 1e9, .latency = 1e-6};

StepPlan plan(const PlanLayout& layout, const PlanMachine& on = machine) {
  return plan_step(shape(), layout, on);
}

double seconds(double bytes, double messages) {
  return bytes / machine.network + messages * machine.latency;
}

}  // namespace

TEST_CASE("a plan of one rank is what the model computes and takes") {
  const StepPlan one = plan({.batch = 8});
  const Config c = shape();
  const Transformer model(c);
  CHECK(one.flops == training_flops(model, 8, 128));
  CHECK(one.compute_seconds == doctest::Approx(one.flops / 1e11));
  CHECK(one.parameters == size_of_shape(c).parameters);
  CHECK(one.tokens == 8 * 128);
  CHECK(one.data_bytes == 0);
  CHECK(one.tensor_bytes == 0);
  CHECK(one.data_seconds + one.tensor_seconds == 0);
  // Without sums: what AdamW reads and writes, and the norm of the gradients.
  CHECK(one.update_seconds == doctest::Approx(32 * one.parameters / 1e10));
  TrainingShape s;
  s.batch = 8;
  s.context = 128;
  CHECK(one.memory.total() == training_footprint(c, s, optimizer_bytes(c, OptimizerSettings())).total());
  CHECK(one.limit() == "compute");
}

TEST_CASE("groups divide the sequences, and send gradients and values") {
  const StepPlan one = plan({.batch = 8}), four = plan({.ranks = 4, .batch = 8});
  CHECK(four.compute_seconds == doctest::Approx(one.compute_seconds / 4));
  CHECK(four.tokens == one.tokens);
  CHECK(four.data_bytes == doctest::Approx(2 * 4 * one.parameters * 3 / 4));
  CHECK(four.data_seconds == doctest::Approx(seconds(four.data_bytes, 2 * 3)));
  // Each batch's gradients go once.
  const StepPlan twice = plan({.ranks = 4, .batch = 8, .accumulate = 2});
  CHECK(twice.data_bytes == doctest::Approx(1.5 * four.data_bytes));
  CHECK(twice.flops == doctest::Approx(four.flops));
  CHECK(twice.memory.activations < 0.7 * four.memory.activations);
  // A quarter of the moments, and of the sum beside the gradients of a batch. The pool takes whole blocks.
  const double gradients = 4 * one.parameters;
  CHECK(four.memory.optimizer == doctest::Approx(gradients + 12 * one.parameters / 4).epsilon(0.2));
  CHECK(plan({.ranks = 4, .batch = 8}, {1e11, 1e10, 1e6, 0}).limit() == "data");
}

TEST_CASE("a tensor group divides matrices, and adds up rows") {
  const StepPlan one = plan({.batch = 8}), two = plan({.ranks = 2, .tensor = 2, .batch = 8});
  CHECK(two.compute_seconds == doctest::Approx(one.compute_seconds / 2).epsilon(0.01));
  CHECK(two.memory.parameters == doctest::Approx(one.memory.parameters / 2).epsilon(0.2));
  CHECK(two.data_bytes == 0);
  const double rows = 8 * 128, row_bytes = 4 * 384;
  CHECK(two.tensor_bytes == doctest::Approx((4 * 4 + 2) * 2 * 0.5 * rows * row_bytes));
  CHECK(two.tensor_seconds == doctest::Approx(seconds(two.tensor_bytes, 18 * 2)));
  CHECK(two.tokens == one.tokens);
  const StepPlan again = plan({.ranks = 2, .tensor = 2, .batch = 8, .recompute = recompute_plan("blocks")});
  CHECK(again.tensor_bytes == doctest::Approx(two.tensor_bytes * 22 / 18));
  CHECK(again.flops > 1.2 * two.flops);
  CHECK(again.memory.activations < two.memory.activations);
}

TEST_CASE("both together divide both ways") {
  const StepPlan both = plan({.ranks = 4, .tensor = 2, .batch = 8});
  CHECK(both.tensor_bytes > 0);
  // Gradients and values of half of the model, between two groups.
  CHECK(both.data_bytes ==
        doctest::Approx(2 * 4 * size_of_shape(division_named("tensor").shape_of_one(shape(), 2)).parameters / 2));
}

TEST_CASE("an expert group divides experts, and sends tokens to them and back") {
  Config c = shape();
  for (LayerBlueprint& layer : c.layers) {
    layer.experts = 8;
    layer.top_k = 2;
  }
  const auto of = [&](const PlanLayout& layout) { return plan_step(c, layout, machine); };
  const StepPlan data = of({.ranks = 4, .batch = 8}), experts = of({.ranks = 4, .expert = 4, .batch = 8});
  const double of_experts = 4 * 8 * 3 * 384 * 1024, others = data.parameters - of_experts;
  CHECK(experts.parameters == data.parameters);
  CHECK(data.active_parameters == doctest::Approx(others + of_experts / 4).epsilon(0.02));
  CHECK(data.expert_parameters == of_experts);
  CHECK(experts.expert_parameters == of_experts / 4);
  CHECK(experts.compute_seconds == data.compute_seconds);  // of each rank's own tokens, elsewhere
  CHECK(experts.memory.parameters < 0.5 * data.memory.parameters);
  // Of experts nobody else has anything to add.
  CHECK(experts.data_bytes == doctest::Approx(2 * 4 * others * 3 / 4));
  const double rows = 2 * 128 * 2;  // choices of a rank
  CHECK(data.expert_bytes == 0);
  CHECK(experts.expert_bytes == doctest::Approx(4 * 4 * rows * 384 * 4 * 3 / 4));  // there and back, twice a layer
  CHECK(experts.expert_seconds == doctest::Approx(seconds(experts.expert_bytes, (4 * 4 + 4) * 3)));
  // Two of them have each expert: half of its gradients, and values, go to the other.
  const StepPlan pairs = of({.ranks = 4, .expert = 2, .batch = 8});
  CHECK(pairs.expert_parameters == of_experts / 2);
  CHECK(pairs.data_bytes == doctest::Approx(2 * 4 * (others * 3 / 4 + of_experts / 2 / 2)));
  // All wait for the busiest.
  const StepPlan uneven = of({.ranks = 4, .expert = 4, .balance = 1.5, .batch = 8});
  CHECK(uneven.compute_seconds - experts.compute_seconds ==
        doctest::Approx(0.5 * 3 * 2 * rows * 4 * 3 * 384 * 1024 / machine.flops));
  CHECK(uneven.expert_seconds > 1.4 * experts.expert_seconds);
  const StepPlan again = of({.ranks = 4, .expert = 4, .batch = 8, .recompute = recompute_plan("feed_forward")});
  CHECK(again.expert_bytes == doctest::Approx(1.5 * experts.expert_bytes));
  for (const PlanLayout& wrong :
       {PlanLayout{.ranks = 3, .expert = 3, .batch = 3}, PlanLayout{.ranks = 4, .expert = 3, .batch = 4},
        PlanLayout{.ranks = 4, .tensor = 2, .expert = 2, .batch = 4}, PlanLayout{.balance = 1.5}})
    CHECK_THROWS_AS(check_plan(c, wrong), Error);
  CHECK_THROWS_AS(check_plan(shape(), {.ranks = 2, .expert = 2, .batch = 4}), Error);
}

TEST_CASE("layouts that do not divide are refused") {
  for (const PlanLayout& wrong :
       {PlanLayout{.ranks = 6, .tensor = 4}, PlanLayout{.ranks = 4, .tensor = 4}, PlanLayout{.ranks = 5, .batch = 32},
        PlanLayout{.ranks = 2, .batch = 8, .accumulate = 3}, PlanLayout{.ranks = 2, .tensor = 0}})
    CHECK_THROWS_AS(check_plan(shape(), wrong), Error);
  check_plan(shape(), {.ranks = 2, .tensor = 2, .batch = 1});
}
