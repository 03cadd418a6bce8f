#include "compress/distill.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "base/stop.h"
#include "kernels/rows/elementwise.h"
#include "measure/activations.h"
#include "ops/divergence.h"
#include "weights/computed_weight.h"
#include "weights/packed_weight.h"

namespace hone {
namespace {

bool has_scales(const Weight& weight) {
  const auto element = kernels::find_element(weight.element());
  return element && kernels::info_of(*element).scaled;
}

// Adam's two averages of a parameter's gradient.
struct Moments {
  Parameter* parameter;
  Tensor m, v;
};

// The model in a form that is trained, and back.
class Trainable : public Visitor {
 public:
  explicit Trainable(Transformer& model) { model.visit(*this); }
  ~Trainable() {
    for (auto& [slot, before] : weights_) {
      const auto scaled = std::dynamic_pointer_cast<ScaledWeight>(*slot);
      *slot = scaled ? with_activation_bits_of(*before, pack_integers(scaled->matrix())) : before;
    }
    for (const auto& [parameter, trainable] : parameters_) parameter->trainable = trainable;
  }
  Trainable(const Trainable&) = delete;
  Trainable& operator=(const Trainable&) = delete;

  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    weights_.emplace_back(&weight, weight);
    if (info.role != Role::embedding && has_scales(*weight)) {
      weight = std::make_shared<ScaledWeight>(unpack_integers(*weight));
      scales_ += add(*weight->parameter());
      return;
    }
    weight = std::make_shared<DenseWeight>(weight->to_dense().clone(), Bitmask());
    weight->parameter()->trainable = false;
  }

  void parameter(const ParameterInfo& info, Parameter& parameter) override {
    parameters_.emplace_back(&parameter, parameter.trainable);
    parameter.trainable = (info.role == Role::gain || info.role == Role::bias) && info.of != Role::encoder;
    if (!parameter.trainable) return;
    make_writable(parameter.value);
    norms_ += add(parameter);
  }

  int64_t scales() const { return scales_; }
  int64_t norms() const { return norms_; }
  std::vector<Moments>& moments() { return moments_; }

 private:
  int64_t add(Parameter& parameter) {
    moments_.push_back({&parameter, Tensor::zeros(parameter.value.shape()), Tensor::zeros(parameter.value.shape())});
    return parameter.value.size();
  }

  std::vector<std::pair<std::shared_ptr<Weight>*, std::shared_ptr<Weight>>> weights_;
  std::vector<std::pair<Parameter*, bool>> parameters_;
  std::vector<Moments> moments_;
  int64_t scales_ = 0, norms_ = 0;
};

// Windows in passes, each in an order of its own.
class Windows {
 public:
  Windows(const CalibrationText& text, uint64_t seed) : text_(text), seed_(seed) {}

  std::vector<int32_t> next(int64_t count) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < count; ++i) {
      if (order_.empty()) shuffle();
      const auto begin = text_.ids.begin() + order_.back() * text_.length;
      order_.pop_back();
      ids.insert(ids.end(), begin, begin + text_.length);
    }
    return ids;
  }

 private:
  void shuffle() {
    Random random(mix64(seed_) + static_cast<uint64_t>(pass_++), "distill");
    for (int64_t w = 0; w < text_.windows; ++w) order_.push_back(w);
    for (size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[random.below(i)]);
  }

  const CalibrationText& text_;
  uint64_t seed_;
  int64_t pass_ = 0;
  std::vector<int64_t> order_;
};

double gradients(const Transformer& model, const Transformer& parent, std::span<const int32_t> ids, int64_t length,
                 DType type) {
  const auto windows = static_cast<int64_t>(ids.size()) / length;
  const Batch batch = Batch::whole(windows, length);
  const auto teacher = ops::predictions_of(parent.hidden(ids, parent.call(batch, type)).value(), parent.head());
  const Call call = model.call(batch, type);
  Tape tape;
  const Var hidden = model.hidden(ids, call);
  const std::vector<int32_t> all(ids.size(), 0);  // every row counts
  const LossTerm term = ops::divergence_head("divergence", hidden, model.head(), *teacher, 1, all, 1);
  const double value = static_cast<double>(term.value.value().data<float>()[0]);
  tape.backward(std::span(&term, 1));
  return value;
}

void step(std::vector<Moments>& moments, int64_t number, double rate) {
  constexpr double beta1 = 0.9, beta2 = 0.99;
  for (Moments& of : moments) {
    Parameter& p = *of.parameter;
    if (!p.has_grad) continue;
    kernels::AdamW a;
    a.count = p.value.size();
    a.value = p.value.data<float>();
    a.grad = p.grad.data<float>();
    a.m = of.m.data<float>();
    a.v = of.v.data<float>();
    a.learning_rate = static_cast<float>(rate);
    a.beta1 = static_cast<float>(beta1);
    a.beta2 = static_cast<float>(beta2);
    a.epsilon = 1e-12f;  // gradients of single scales are small
    a.correction1 = static_cast<float>(1 - std::pow(beta1, static_cast<double>(number)));
    a.correction2 = static_cast<float>(1 - std::pow(beta2, static_cast<double>(number)));
    kernels::adamw(a);
    p.has_grad = false;
    ++p.version;
  }
}

}  // namespace

Distilled distill(Transformer& model, const Transformer& parent, const CalibrationText& text,
                  const DistillSettings& s) {
  Trainable trained(model);
  if (trained.scales() == 0) throw usage_error("no linear layer has scales that could be distilled");
  Windows windows(text, s.seed);
  Distilled result{trained.scales(), trained.norms()};
  const int64_t part = std::max<int64_t>(1, s.steps / 10);
  for (int64_t i = 0; i < s.steps; ++i) {
    check_stop();
    const double value = gradients(model, parent, windows.next(std::min(s.batch, text.windows)), text.length, s.type);
    if (!std::isfinite(value))
      throw Error(ErrorKind::diverged, fmt::format("distilling diverged at step {}: lower the learning rate", i + 1));
    if (i < part) result.before += value / static_cast<double>(part);
    if (i >= s.steps - part) result.after += value / static_cast<double>(part);
    const double done = static_cast<double>(i) / static_cast<double>(s.steps);
    step(trained.moments(), i + 1, s.learning_rate * (0.55 + 0.45 * std::cos(std::numbers::pi * done)));
    if (s.progress) s.progress(i + 1, s.steps, value);
  }
  return result;
}

double distill_bytes(const Transformer& model, const CalibrationText& text, const DistillSettings& s) {
  struct Elements : Reader {
    void weight(const ParameterInfo&, const Weight& weight) override {
      count += static_cast<double>(weight.rows() * weight.cols());
    }
    void parameter(const ParameterInfo&, const Parameter&) override {}
    double count = 0;
  } elements;
  model.visit(elements);
  const TrainingShape shape = {.batch = std::min(s.batch, text.windows), .context = text.length, .type = s.type};
  // Values, integers, and the copies of both models' weights for bf16 products.
  return elements.count * (5 + (s.type == DType::bf16 ? 6 : 0)) + activation_bytes(model.config(), shape);
}

}  // namespace hone
