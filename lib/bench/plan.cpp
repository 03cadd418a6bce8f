#include "bench/plan.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "measure/activations.h"
#include "measure/speed.h"
#include "model/division.h"
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

// Sums of rows behind the halves of blocks: forward, backward, and once more where a half is computed again. The output
// of the last one of a stretch is not.
double sums_of_halves(const RecomputePlan& plan, int64_t layers) {
  int64_t sums = 4 * layers;
  for (const Stretch& stretch : plan.stretches(0, layers))
    if (stretch.again) sums += stretch.to - stretch.from - 1;
  return number(sums);
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
  if (layout.tensor > 1) division_named("tensor").check(config, layout.tensor);
}

StepPlan plan_step(const Config& config, const PlanLayout& layout, const PlanMachine& machine) {
  check_plan(config, layout);
  const int64_t groups = layout.groups(), context = layout.context > 0 ? layout.context : config.context;
  const Config part = division_named("tensor").shape_of_one(config, layout.tensor);
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
    // Behind the halves of each layer, behind the head backward, and of embeddings, which are f32.
    const double sums_of_rows = sums_of_halves(layout.recompute, static_cast<int64_t>(config.layers.size())) + 1;
    const double row_bytes = sums_of_rows * static_cast<double>(size_of(layout.type)) + 4;
    const double rows = number(shape.batch) * number(context);
    plan.tensor_bytes = batches * 2 * exchanged(layout.tensor) * rows * number(config.block.dim) * row_bytes;
    plan.tensor_seconds = plan.tensor_bytes / machine.network +
                          batches * (sums_of_rows + 1) * 2 * number(layout.tensor - 1) * machine.latency;
  }
  return plan;
}

}  // namespace hone
