#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/error.h"
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

double optimizer_bytes(const Config& config, const OptimizerSettings& settings, int64_t batches, int ranks) {
  struct Counter : Reader {
    const Config* config;
    const OptimizerSettings* settings;
    std::vector<double> gradients, states;
    void weight(const ParameterInfo& info, const Weight& weight) override { add(info, {weight.rows(), weight.cols()}); }
    void parameter(const ParameterInfo& info, const Parameter& parameter) override {
      add(info, parameter.value.shape());
    }
    void add(const ParameterInfo& info, const Shape& shape) {
      gradients.push_back(StateArray{"gradient", shape}.bytes());
      states.push_back(0);
      for (const StateArray& array : settings->kind->rule(info, *config, *settings)->arrays(shape))
        states.back() += array.bytes();
    }
  } counter;
  counter.config = &config;
  counter.settings = &settings;
  const ShapesOnly shapes;
  const Transformer model(config);
  model.visit(counter);
  std::vector<double> of_rank(static_cast<size_t>(ranks), 0);
  const std::vector<int> owners = divide(counter.states, ranks);
  for (size_t i = 0; i < owners.size(); ++i)
    of_rank[static_cast<size_t>(owners[i])] +=
        counter.states[i] + (batches > 1 || ranks > 1 ? counter.gradients[i] : 0);
  return std::accumulate(counter.gradients.begin(), counter.gradients.end(), 0.0) + *std::ranges::max_element(of_rank);
}

Optimizer::Optimizer(Transformer& model, const OptimizerSettings& settings, Communicator& ranks)
    : ranks_(ranks), name_(settings.kind->name) {
  require_trainable(model);
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
      slots->push_back({info.name, &parameter, std::move(weight), rule, 0, std::move(state)});
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
  for (const Slot& slot : slots_) {
    sizes.push_back(0);
    for (const auto& [array, tensor] : slot.state) sizes.back() += static_cast<double>(tensor.bytes());
  }
  const std::vector<int> owners = divide(sizes, ranks_.size());
  for (size_t i = 0; i < slots_.size(); ++i) {
    slots_[i].owner = owners[i];
    if (owners[i] != ranks_.rank()) continue;
    for (auto& [array, tensor] : slots_[i].state) tensor = Tensor::zeros(tensor.shape(), tensor.dtype());
  }
}

std::vector<OwnedParameter> Optimizer::parameters() const {
  std::vector<OwnedParameter> all;
  for (const Slot& slot : slots_) all.push_back({slot.parameter, slot.owner});
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
  const std::vector<std::string> all = ranks_.gather(squares);
  double total = 0;
  for (size_t i = 0; i < slots_.size(); ++i) {
    double sum = 0;
    std::memcpy(&sum, all[static_cast<size_t>(slots_[i].owner)].data() + i * sizeof sum, sizeof sum);
    total += sum;
  }
  return std::sqrt(total);
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
    if (array.owner == ranks_.rank()) bytes += array.tensor.bytes();
  return static_cast<int64_t>(bytes);
}

std::map<std::string, Optimizer::Kept> Optimizer::kept() const {
  std::map<std::string, Kept> all;
  for (const Slot& slot : slots_)
    for (const auto& [array, tensor] : slot.state) all[slot.name + "." + array] = {tensor, slot.owner};
  return all;
}

std::map<std::string, Tensor> Optimizer::state() const {
  std::map<std::string, Tensor> result;
  for (const auto& [name, array] : kept()) result[name] = array.tensor;
  return result;
}

// Rank 0 sends the place of an array in the order of names to who has it, and -1 to all in the end.
void Optimizer::with_whole_state(
    const std::function<void(const std::function<Tensor(const std::string& name)>& array)>& f) const {
  const std::map<std::string, Kept> all = kept();
  int64_t place = -1;
  const std::span<std::byte> asked = std::as_writable_bytes(std::span(&place, 1));
  if (ranks_.rank() == 0) {
    struct End {
      ~End() {
        place = -1;
        for (int rank = 1; rank < ranks.size(); ++rank) wait(*ranks.send(std::as_bytes(std::span(&place, 1)), rank));
      }
      Communicator& ranks;
      int64_t& place;
    } const end{ranks_, place};
    f([&](const std::string& name) {
      const auto found = all.find(name);
      if (found == all.end()) throw internal_error("the optimizer keeps no '{}'", name);
      const auto& [tensor, owner] = found->second;
      if (owner == 0) return tensor;
      place = std::distance(all.begin(), found);
      wait(*ranks_.send(asked, owner));
      Tensor array = Tensor::empty(tensor.shape(), tensor.dtype());
      wait(*ranks_.receive({array.raw(), array.bytes()}, owner));
      return array;
    });
    return;
  }
  for (;;) {
    wait(*ranks_.receive(asked, 0));
    if (place < 0) return;
    const Tensor& tensor = std::next(all.begin(), place)->second.tensor;
    wait(*ranks_.send({tensor.raw(), tensor.bytes()}, 0));
  }
}

void Optimizer::restore(const std::map<std::string, Tensor>& state, int64_t steps) {
  for (Slot& slot : slots_) {
    if (slot.owner != ranks_.rank()) continue;
    for (auto& [array, own] : slot.state) {
      const std::string name = slot.name + "." + array;
      const auto found = state.find(name);
      if (found == state.end() || found->second.shape() != own.shape() || found->second.dtype() != own.dtype())
        throw input_error("the checkpoint's optimizer state '{}' is missing or does not fit the model", name);
      std::memcpy(own.raw(), found->second.raw(), own.bytes());
    }
  }
  steps_ = steps;
}

}  // namespace hone
