#include "bench/plan.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "base/error.h"
#include "measure/activations.h"
#include "measure/speed.h"
#include "model/division.h"
#include "model/size.h"
#include "model/store.h"
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

// A rank of so many that nobody started, for what asks them for no more than their number.
class ImaginedRanks : public Communicator {
 public:
  explicit ImaginedRanks(int64_t size) : size_(static_cast<int>(size)) {}
  int rank() const override { return 0; }
  int size() const override { return size_; }
  std::vector<std::string> gather(std::string_view) override { nobody(); }
  std::unique_ptr<Pending> broadcast(std::span<std::byte>, int) override { nobody(); }
  std::unique_ptr<Pending> send(std::span<const std::byte>, int) override { nobody(); }
  std::unique_ptr<Pending> receive(std::span<std::byte>, int) override { nobody(); }
  std::shared_ptr<Communicator> split(int) override { nobody(); }
  int leave(int, const std::string&, const std::function<void(const std::string&)>&) override { nobody(); }

 private:
  [[noreturn]] static void nobody() { throw internal_error("a plan runs nothing"); }
  int size_;
};

// Of a rank: elements of all parameters that it has, and of the routed experts among them.
struct RankElements : Reader {
  double all = 0, experts = 0;
  void weight(const ParameterInfo& info, const Weight& weight) override {
    add(info, number(weight.rows()) * number(weight.cols()));
  }
  void parameter(const ParameterInfo& info, const Parameter& parameter) override {
    add(info, number(parameter.value.size()));
  }
  void add(const ParameterInfo& info, double elements) {
    if (!info.part.here()) return;
    all += elements;
    if (info.expert >= 0) experts += elements;
  }
};

RankElements elements_of(const Config& part, const ModelRanks& row) {
  const ShapesOnly shapes;
  const Transformer model(part, row);
  RankElements elements;
  model.visit(elements);
  return elements;
}

double active_parameters(const Config& config) {
  const ShapesOnly shapes;
  return number(size_of(Transformer(config)).active_parameters);
}

// Of the mixtures of a batch's pass forward and backward.
struct MixtureWork {
  double flops = 0;  // of the products of routed experts
  // Rows that ranks with experts between them send each other, `dim` wide, if none of them were a rank's own; how often
  // they do; and how often they tell how many come.
  double rows = 0, exchanges = 0, counts = 0;
};

MixtureWork work_of_mixtures(const Config& config, const TrainingShape& shape) {
  MixtureWork work;
  const double tokens = number(shape.batch) * number(shape.context);
  const double matrices = info_of(config.block.activation).gated ? 3 : 2;
  for (const Stretch& stretch : shape.recompute.stretches(0, static_cast<int64_t>(config.layers.size())))
    for (int64_t half = stretch.from; half < stretch.to; ++half) {
      const LayerBlueprint& layer = config.layers[static_cast<size_t>(half / 2)];
      if (half % 2 == 0 || layer.experts == 0) continue;
      const double passes = stretch.again ? 2 : 1;  // forward; each there and back, as the way backward is
      work.flops +=
          (2 + passes) * 2 * tokens * number(layer.top_k) * matrices * number(config.block.dim) * number(layer.ffn);
      work.exchanges += 2 * (passes + 1);
      work.counts += passes;
      work.rows += 2 * (passes + 1) * tokens * number(layer.top_k);
    }
  return work;
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
  const std::pair<double, const char*> parts[] = {{compute_seconds, "compute"},
                                                  {update_seconds, "update"},
                                                  {data_seconds, "data"},
                                                  {tensor_seconds, "tensor"},
                                                  {expert_seconds, "expert"}};
  return std::ranges::max_element(parts)->second;
}

void check_plan(const Config& config, const PlanLayout& layout) {
  const auto divides = [](int64_t count, int64_t whole, const char* of, const char* what) {
    if (count < 1) throw usage_error("a plan of {} {}: there is at least one", count, of);
    if (whole % count != 0) throw usage_error("{} {} do not divide {} {}", count, of, whole, what);
  };
  divides(layout.tensor, layout.ranks, "ranks of a tensor group", "ranks");
  divides(layout.expert, layout.ranks, "ranks of an expert group", "ranks");
  if (layout.tensor > 1 && layout.expert > 1)
    throw usage_error("ranks divide each matrix or the experts of mixtures, not both; leave out tensor or expert");
  if (layout.expert == 1 && layout.balance != 1)
    throw usage_error("balance={:.6g} is of ranks that have experts; say of how many, as in expert=2", layout.balance);
  divides(layout.groups(), layout.batch, "groups", "sequences of the batch");
  divides(layout.accumulate, layout.batch / layout.groups(), "batches", "sequences of a group");
  if (layout.tensor > 1) division_named("tensor").check(config, layout.tensor);
  if (layout.expert == 1) return;
  division_named("expert").check(config, layout.expert);
  division_named("expert").require_any(config, layout.expert);
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
  const ModelRanks row(division_named("expert"), std::make_shared<ImaginedRanks>(layout.expert));
  const RankElements kept = elements_of(part, row);
  const MixtureWork mixtures = work_of_mixtures(part, shape);
  const double batches = number(layout.accumulate);

  StepPlan plan;
  plan.parameters = size_of_shape(config).parameters;
  plan.tokens = layout.batch * context;
  plan.flops = batches * flops_of_batch(part, shape);
  plan.active_parameters = active_parameters(config);
  plan.expert_parameters = kept.experts;
  const double busiest = layout.expert > 1 ? layout.balance : 1;  // which all others wait for
  plan.compute_seconds = (plan.flops + (busiest - 1) * batches * mixtures.flops) / machine.flops;
  plan.memory = training_footprint(
      part, shape, optimizer_bytes(part, layout.optimizer, layout.accumulate * groups, static_cast<int>(groups), row),
      row);

  // AdamW reads a weight, its gradient and its two moments, and writes all but the gradient; the norm reads the
  // gradient. A sum reads what it had and what comes, and is written: once a batch and group for what a rank owns.
  // Experts are added up over the ranks that have them, all else over all groups.
  const int64_t copies = groups / layout.expert;
  double bytes = 0;
  for (const auto& [elements, parts] : {std::pair(kept.all - kept.experts, groups), std::pair(kept.experts, copies)}) {
    const double owned = elements / number(parts);
    bytes += (layout.accumulate * parts > 1 ? batches * number(parts) * 12 * owned : 0) + (28 + 4) * owned;
    plan.data_bytes += 4 * elements * exchanged(parts) * (batches + 1);
  }
  plan.update_seconds = bytes / machine.bandwidth;

  if (groups > 1)
    plan.data_seconds = plan.data_bytes / machine.network + (batches + 1) * number(groups - 1) * machine.latency;
  if (layout.expert > 1) {
    plan.expert_bytes = batches * mixtures.rows * exchanged(layout.expert) * number(config.block.dim) *
                        static_cast<double>(size_of(layout.type));
    plan.expert_seconds =
        busiest * plan.expert_bytes / machine.network +
        batches * (mixtures.exchanges + mixtures.counts) * number(layout.expert - 1) * machine.latency;
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
