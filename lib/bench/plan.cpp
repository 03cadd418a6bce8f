#include "bench/plan.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "measure/activations.h"
#include "measure/speed.h"
#include "model/size.h"
#include "model/transformer.h"
#include "train/optimizer.h"

namespace hone {
namespace {

double number(int64_t n) {
  return static_cast<double>(n);
}

// Of what `parts` ranks add up together, each sends and receives this part twice: once for the sums, once for the
// results (a ring, Patarasuk & Yuan 2009; gradients to owners and values back are the same).
double exchanged(int64_t parts) {
  return number(parts - 1) / number(parts);
}

double flops_of_batch(const Config& part, const TrainingShape& shape) {
  const ShapesOnly shapes;
  const Transformer model(part);
  return training_flops(model, shape.batch, shape.context) + recomputed_flops(part, shape);
}

// Halves of blocks that run in a step: forward, backward, and once more where they are computed again.
double halves_run(const RecomputePlan& plan, int64_t layers) {
  return number(4 * layers + plan.halves_again(layers));
}

}  // namespace

std::string StepPlan::limit() const {
  const std::pair<double, const char*> parts[] = {
      {compute_seconds, "compute"}, {update_seconds, "update"}, {data_seconds, "data"}, {tensor_seconds, "tensor"}};
  return std::ranges::max_element(parts)->second;
}

void check_plan(const Config& config, const PlanLayout& layout) {
  const auto divides = [](int64_t count, int64_t whole, const char* of, const char* what) {
    if (count < 1) throw usage_error("a plan of {} {}: there is at least one", count, of);
    if (whole % count != 0) throw usage_error("{} {} do not divide {} {}", count, of, whole, what);
  };
  divides(layout.tensor, layout.ranks, "ranks of a tensor group", "ranks");
  divides(layout.groups(), layout.batch, "groups", "sequences of the batch");
  divides(layout.accumulate, layout.batch / layout.groups(), "batches", "sequences of a group");
  for (const LayerBlueprint& layer : config.layers) {
    divides(layout.tensor, layer.heads, "ranks of a tensor group", "heads");
    divides(layout.tensor, layer.kv_heads, "ranks of a tensor group", "key/value heads");
    divides(layout.tensor, layer.ffn, "ranks of a tensor group", "hidden rows of the feed-forward");
  }
  divides(layout.tensor, config.padded_vocabulary, "ranks of a tensor group", "tokens of the vocabulary");
}

Config part_of(Config config, int64_t tensor) {
  for (LayerBlueprint& layer : config.layers) {
    layer.heads /= tensor;
    layer.kv_heads /= tensor;
    layer.ffn /= tensor;
  }
  config.padded_vocabulary /= tensor;
  config.vocabulary = std::min(config.vocabulary, config.padded_vocabulary);
  return config;
}

StepPlan plan_step(const Config& config, const PlanLayout& layout, const PlanMachine& machine) {
  check_plan(config, layout);
  const int64_t groups = layout.groups(), context = layout.context > 0 ? layout.context : config.context;
  const Config part = part_of(config, layout.tensor);
  TrainingShape shape;
  shape.batch = layout.batch / groups / layout.accumulate;
  shape.context = context;
  shape.type = layout.type;
  shape.recompute = layout.recompute;
  const double batches = number(layout.accumulate), kept = size_of_shape(part).parameters;

  StepPlan plan;
  plan.parameters = size_of_shape(config).parameters;
  plan.tokens = layout.batch * context;
  plan.flops = batches * flops_of_batch(part, shape);
  plan.compute_seconds = plan.flops / machine.flops;
  plan.memory = training_footprint(
      part, shape, optimizer_bytes(part, layout.optimizer, layout.accumulate * groups, static_cast<int>(groups)));

  // AdamW reads a weight, its gradient and its two moments, and writes all but the gradient; the norm reads the
  // gradient. A sum reads what it had and what comes, and is written: once a batch and group for what a rank owns.
  const double owned = kept / number(groups);
  const double sums = layout.accumulate * groups > 1 ? batches * number(groups) * 12 * owned : 0;
  plan.update_seconds = (sums + (28 + 4) * owned) / machine.bandwidth;

  if (groups > 1) {
    plan.data_bytes = 4 * kept * exchanged(groups) * (batches + 1);
    plan.data_seconds = plan.data_bytes / machine.network + (batches + 1) * number(groups - 1) * machine.latency;
  }
  if (layout.tensor > 1) {
    // Behind the mixer and the feed-forward of each layer, in each direction, and behind the head backward.
    const double sums_of_rows = halves_run(layout.recompute, static_cast<int64_t>(config.layers.size())) + 1;
    const double row_bytes = number(config.block.dim) * static_cast<double>(size_of(layout.type));
    const double rows = number(shape.batch) * number(context);
    plan.tensor_bytes = batches * sums_of_rows * 2 * exchanged(layout.tensor) * rows * row_bytes;
    plan.tensor_seconds =
        plan.tensor_bytes / machine.network + batches * sums_of_rows * 2 * number(layout.tensor - 1) * machine.latency;
  }
  return plan;
}

}  // namespace hone
