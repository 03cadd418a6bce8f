#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/error.h"
#include "base/spelling.h"
#include "kernels/rows/elementwise.h"
#include "train/division.h"
#include "weights/dense_weight.h"

namespace hone {

void require_trainable(const Transformer& model) {
  struct Check : Reader {
    void weight(const ParameterInfo& info, const Weight& weight) override {
      if (!weight.trainable())
        throw usage_error(
            "'{}' is a {} {} weight, which cannot be trained; start from the model before it was quantized", info.name,
            weight.form(), weight.element());
    }
    void parameter(const ParameterInfo&, const Parameter&) override {}
  } check;
  model.visit(check);
}

void require_elementwise(const OptimizerSettings& settings) {
  if (!settings.kind->elementwise) {
    std::vector<std::string> others;
    for (const OptimizerKind& kind : optimizers())
      if (kind.elementwise) others.emplace_back(kind.name);
    throw usage_error("{} moves whole matrices, which the ranks of a tensor group divide; use {}, or data ranks alone",
                      settings.kind->name, either_of(others));
  }
  if (settings.moments == MomentForm::int8)
    throw usage_error(
        "moments in int8 share scales among elements that the ranks of a tensor group divide; use bf16 or f32");
}

namespace {

// Of rows of ranks among those that share batches: how many have the model together.
int width_of(const ModelRanks& row) {
  return row && row.way->own_batches ? row.size() : 1;
}

}  // namespace

double optimizer_bytes(const Config& config, const OptimizerSettings& settings, int64_t batches, int ranks,
                       const ModelRanks& row) {
  struct Counter : Reader {
    const Config* config;
    const OptimizerSettings* settings;
    std::vector<double> gradients, states;
    std::vector<int> columns;
    double here = 0;  // of the gradients
    void weight(const ParameterInfo& info, const Weight& weight) override { add(info, {weight.rows(), weight.cols()}); }
    void parameter(const ParameterInfo& info, const Parameter& parameter) override {
      add(info, parameter.value.shape());
    }
    void add(const ParameterInfo& info, const Shape& shape) {
      gradients.push_back(StateArray{"gradient", shape}.bytes());
      columns.push_back(info.part.holder);
      if (info.part.here()) here += gradients.back();
      states.push_back(0);
      for (const StateArray& array : settings->kind->rule(info, *config, *settings)->arrays(shape))
        states.back() += array.bytes();
    }
  } counter;
  counter.config = &config;
  counter.settings = &settings;
  const ShapesOnly shapes;
  const Transformer model(config, row);
  model.visit(counter);
  std::vector<double> of_rank(static_cast<size_t>(ranks), 0);
  const std::vector<int> owners = divide(counter.states, ranks, counter.columns, width_of(row));
  for (size_t i = 0; i < owners.size(); ++i)
    of_rank[static_cast<size_t>(owners[i])] +=
        counter.states[i] + (batches > 1 || ranks > 1 ? counter.gradients[i] : 0);
  return counter.here + *std::ranges::max_element(of_rank);
}

Optimizer::Optimizer(Transformer& model, const OptimizerSettings& settings, Communicator& ranks)
    : ranks_(ranks), width_(width_of(model.model_ranks())), name_(settings.kind->name) {
  const ModelRanks& row = model.model_ranks();
  if (row && !row.way->own_batches) parts_ = row.group;
  require_trainable(model);
  if (row && row.way->elementwise) require_elementwise(settings);
  struct Collector : Visitor {
    const Config* config;
    const OptimizerSettings* settings;
    std::vector<Slot>* slots;
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      add(info, *weight->parameter(), weight);
    }
    void parameter(const ParameterInfo& info, Parameter& parameter) override { add(info, parameter, nullptr); }
    void add(const ParameterInfo& info, Parameter& parameter, std::shared_ptr<Weight> weight) {
      make_writable(parameter.value);
      const auto rule = settings->kind->rule(info, *config, *settings);
      std::map<std::string, Tensor> state;
      for (const StateArray& array : rule->arrays(parameter.value.shape()))
        state[array.name] = Tensor::promised(array.shape, array.type);
      slots->push_back({info.name, &parameter, std::move(weight), rule, 0, std::move(state), info.part, info.layer});
    }
  } collector;
  collector.config = &model.config();
  collector.settings = &settings;
  collector.slots = &slots_;
  model.visit(collector);
  divide_state();
}

void Optimizer::divide_state() {
  std::vector<double> sizes;
  std::vector<int> columns;
  for (const Slot& slot : slots_) {
    columns.push_back(slot.part.holder);
    sizes.push_back(0);
    for (const auto& [array, tensor] : slot.state) sizes.back() += static_cast<double>(tensor.bytes());
  }
  const std::vector<int> owners = divide(sizes, ranks_.size(), columns, width_);
  for (size_t i = 0; i < slots_.size(); ++i) {
    slots_[i].owner = owners[i];
    if (owners[i] != ranks_.rank()) continue;
    for (auto& [array, tensor] : slots_[i].state) tensor = Tensor::zeros(tensor.shape(), tensor.dtype());
  }
}

std::vector<OwnedParameter> Optimizer::parameters() const {
  std::vector<OwnedParameter> all;
  for (const Slot& slot : slots_) all.push_back({slot.parameter, slot.owner, slot.layer, slot.part.holder, width_});
  return all;
}

double Optimizer::gradient_norm() {
  // A number a parameter, so that their sum has one order however they are divided.
  std::string squares;
  for (Slot& slot : slots_) {
    double sum = 0;
    if (slot.parameter->has_grad) {
      if (const Bitmask mask = slot.weight ? slot.weight->mask() : Bitmask())
        kernels::apply_mask(slot.parameter->grad.view(), mask.data());
      sum = kernels::sum_of_squares(slot.parameter->grad.view());
    }
    squares.append(reinterpret_cast<const char*>(&sum), sizeof sum);
  }
  std::vector<double> sums(slots_.size());
  const std::vector<std::string> all = ranks_.gather(squares);
  for (size_t i = 0; i < slots_.size(); ++i)
    std::memcpy(&sums[i], all[static_cast<size_t>(slots_[i].owner)].data() + i * sizeof(double), sizeof(double));
  if (parts_) add_parts(sums);
  return std::sqrt(std::accumulate(sums.begin(), sums.end(), 0.0));
}

// Of what is divided the sums of all parts; the rest is the same on all.
void Optimizer::add_parts(std::vector<double>& sums) const {
  const size_t bytes = sums.size() * sizeof(double);
  const std::vector<std::string> all = parts_->gather({reinterpret_cast<const char*>(sums.data()), bytes});
  std::vector<double> other(sums.size());
  for (size_t rank = 0; rank < all.size(); ++rank) {
    std::memcpy(other.data(), all[rank].data(), bytes);
    for (size_t i = 0; i < sums.size(); ++i) {
      if (rank == 0) sums[i] = 0;
      if (rank == 0 || slots_[i].part.divided()) sums[i] += other[i];
    }
  }
}

void Optimizer::step(double learning_rate, double scale, double decay) {
  ++steps_;
  for (Slot& slot : slots_) {
    Parameter& p = *slot.parameter;
    if (!p.has_grad || !p.trainable) continue;
    const Bitmask mask = slot.weight ? slot.weight->mask() : Bitmask();
    slot.rule->apply({p, mask, slot.state, learning_rate, scale, steps_, decay});
    p.has_grad = false;
    ++p.version;
  }
}

void Optimizer::discard_gradients() {
  for (Slot& slot : slots_) slot.parameter->has_grad = false;
}

int64_t Optimizer::state_bytes() const {
  size_t bytes = 0;
  for (const auto& [name, array] : kept())
    if (array.row == ranks_.rank()) bytes += array.tensor.bytes();
  return static_cast<int64_t>(bytes);
}

KeptArrays Optimizer::kept() const {
  KeptArrays all;
  for (const Slot& slot : slots_)
    for (const auto& [array, tensor] : slot.state) all[slot.name + "." + array] = {tensor, slot.owner, slot.part};
  return all;
}

std::map<std::string, Tensor> Optimizer::state() const {
  std::map<std::string, Tensor> result;
  for (const auto& [name, array] : kept()) result[name] = array.tensor;
  return result;
}

void Optimizer::restore(const std::map<std::string, Tensor>& state, int64_t steps) {
  for (Slot& slot : slots_) {
    if (slot.owner != ranks_.rank()) continue;
    for (auto& [array, own] : slot.state) {
      const std::string name = slot.name + "." + array;
      const auto found = state.find(name);
      if (found == state.end() || found->second.shape() != whole_shape(slot.part, own.shape()) ||
          found->second.dtype() != own.dtype())
        throw input_error("the checkpoint's optimizer state '{}' is missing or does not fit the model", name);
      own = take_part(found->second, slot.part);
    }
  }
  steps_ = steps;
}

}  // namespace hone
