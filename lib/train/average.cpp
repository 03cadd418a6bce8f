#include "train/average.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/rows.h"
#include "base/units.h"
#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"

namespace hone {
namespace {

// Of a decay: while that is less, (1 + step) / (10 + step), so that the beginning is soon forgotten.
double of_decay(double decay, int64_t step, int64_t) {
  const double t = static_cast<double>(step);
  return std::min(decay, (1 + t) / (10 + t));
}

// The plain mean of the parameters behind each of the last steps (stochastic weight averaging, Izmailov et al., arXiv
// 1803.05407; of consecutive steps, Sanyal et al., arXiv 2306.03241). Before those it is the parameters.
double of_tail(double part, int64_t step, int64_t steps) {
  const auto tail = std::max<int64_t>(1, std::llround(part * static_cast<double>(steps)));
  const double there = static_cast<double>(step - (steps - tail));
  return there <= 1 ? 0 : (there - 1) / there;
}

constexpr AverageKind rows[] = {
    {"ema:DECAY", "a moving average (with 0.999 of about the last thousand steps)", 0, 1, of_decay},
    {"tail:PART", "the mean over the last part of the steps, such as 0.2", 0, 1, of_tail},
};

}  // namespace

std::span<const AverageKind> average_kinds() {
  return rows;
}

AverageRule average_rule(const std::string& text) {
  if (text.empty()) return {};
  const AverageKind& row = form_called(rows, text, "kind of average");
  const size_t colon = text.find(':');
  if (colon == std::string::npos) throw usage_error("average '{}': write {}", text, row.form);
  const double number = parse_number(text.substr(colon + 1));
  if (!(number > row.above && number < row.below))
    throw usage_error("average '{}': the number must be above {} and below {}", text, row.above, row.below);
  return {&row, number};
}

std::string to_string(const AverageRule& rule) {
  return rule ? fmt::format("{}:{}", first_word(rule.kind->form), rule.number) : "";
}

ParameterAverage::ParameterAverage(Transformer& model, const AverageRule& rule, int64_t steps)
    : rule_(rule), steps_(steps) {
  struct Collector : Visitor {
    std::vector<Slot>* slots;
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      add(info, *weight->parameter(), weight);
    }
    void parameter(const ParameterInfo& info, Parameter& parameter) override { add(info, parameter, nullptr); }
    void add(const ParameterInfo& info, Parameter& parameter, std::shared_ptr<Weight> weight) {
      const Tensor& value = parameter.value;
      slots->push_back({info.name, &parameter, std::move(weight), info.part.here() ? value.clone() : value, info.part});
    }
  } collector;
  collector.slots = &slots_;
  model.visit(collector);
}

void ParameterAverage::add(int64_t step) {
  const double decay = rule_.kind->kept(rule_.number, step, steps_);
  const auto kept = static_cast<float>(decay), added = static_cast<float>(1 - decay);
  constexpr int64_t grain = 1 << 15;
  for (Slot& slot : slots_) {
    if (!slot.part.here()) continue;
    float* const average = slot.average.data<float>();
    const float* const value = slot.parameter->value.data<float>();
    kernels::parallel_for(slot.average.size(), grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) average[i] = kept * average[i] + added * value[i];
    });
    if (const Bitmask mask = slot.weight ? slot.weight->mask() : Bitmask())
      kernels::apply_mask(slot.average.view(), mask.data());
  }
}

void ParameterAverage::exchange() {
  for (Slot& slot : slots_) {
    std::swap(slot.parameter->value, slot.average);
    ++slot.parameter->version;
  }
}

KeptArrays ParameterAverage::state() const {
  KeptArrays result;
  for (const Slot& slot : slots_) result[slot.name] = KeptArray::of(slot.average, slot.part);
  return result;
}

void ParameterAverage::restore(const std::map<std::string, Tensor>& state) {
  for (Slot& slot : slots_) {
    const auto found = state.find(slot.name);
    if (found == state.end() || found->second.shape() != whole_shape(slot.part, slot.average.shape()))
      throw input_error("the checkpoint's average of '{}' is missing or does not fit the model", slot.name);
    slot.average = take_part(found->second, slot.part);
  }
}

}  // namespace hone
