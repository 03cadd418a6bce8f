#include "ops/mixture.h"

#include <cmath>
#include <numeric>

#include "base/random.h"
#include "kernels/rows/elementwise.h"

namespace hone::ops {
namespace {

std::shared_ptr<const RoutePlan> plan_of(const Tensor& chosen, int64_t experts, double capacity_factor) {
  auto plan = std::make_shared<RoutePlan>();
  plan->rows = chosen.dim(0);
  plan->top_k = chosen.dim(1);
  plan->counts.resize(static_cast<size_t>(experts));
  plan->offsets.resize(static_cast<size_t>(experts) + 1);
  plan->places = Tensor::empty(chosen.shape(), DType::i32);
  plan->sources = Tensor::empty({chosen.size()}, DType::i32);
  const double mean = static_cast<double>(chosen.size()) / static_cast<double>(experts);
  const int64_t capacity =
      capacity_factor > 0 ? static_cast<int64_t>(std::ceil(capacity_factor * mean)) : chosen.size();
  plan->slots =
      kernels::sort_slots(chosen.data<int32_t>(), plan->rows, plan->top_k, experts, capacity, plan->counts.data(),
                          plan->offsets.data(), plan->places.data<int32_t>(), plan->sources.data<int32_t>());
  return plan;
}

}  // namespace

std::shared_ptr<const RoutePlan> plan_of_rows(std::span<const int32_t> chosen, int64_t experts) {
  const Tensor of_rows = Tensor::empty({static_cast<int64_t>(chosen.size()), 1}, DType::i32);
  std::copy(chosen.begin(), chosen.end(), of_rows.data<int32_t>());
  return plan_of(of_rows, experts, 0);
}

namespace {

// The mean over rows of the normalized scores, and the sum of their entropies.
std::vector<double> mean_scores(const Tensor& scores, bool wants_entropy, double& entropy) {
  const int64_t rows = scores.dim(0), experts = scores.dim(1);
  std::vector<double> mean(static_cast<size_t>(experts));
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = scores.data<float>() + r * experts;
    float sum = 1e-20f;
    for (int64_t e = 0; e < experts; ++e) sum += row[e];
    for (int64_t e = 0; e < experts; ++e) {
      const float p = row[e] / sum;
      mean[static_cast<size_t>(e)] += static_cast<double>(p) / static_cast<double>(rows);
      if (wants_entropy && p > 0) entropy -= static_cast<double>(p * std::log(p));
    }
  }
  return mean;
}

// The derivative of the balance loss by a row's normalized score of each expert; adds the loss itself to `loss`.
Tensor balance_slopes(const std::vector<double>& mean, const RoutePlan& plan, const RouteSettings& settings,
                      double& loss) {
  const Tensor slopes = Tensor::empty({static_cast<int64_t>(mean.size())});
  std::vector<int64_t> counts = plan.counts;
  if (settings.earlier_counts)
    for (size_t e = 0; e < counts.size(); ++e) counts[e] += (*settings.earlier_counts)[e];
  const double slots = static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
  const double weight = settings.balance_weight * static_cast<double>(mean.size());
  for (size_t e = 0; e < mean.size(); ++e) {
    const double slope = weight * static_cast<double>(counts[e]) / slots;
    loss += slope * mean[e];
    slopes.data<float>()[e] = static_cast<float>(slope / static_cast<double>(plan.rows));
  }
  return slopes;
}

double mean_z(const Tensor& logits) {
  const Tensor squares = Tensor::empty({logits.dim(0)});
  kernels::router_z_forward(logits.view(), squares.data<float>());
  double sum = 0;
  for (const float s : squares.span<float>()) sum += static_cast<double>(s);
  return sum / static_cast<double>(logits.dim(0));
}

// What the backward pass of a routing needs.
struct Kept {
  Var x;
  Tensor logits;  // before noise; kept where the z loss is wanted
  Tensor scores, chosen, slopes;
  RouteSettings settings;
};

void backward(const Kept& kept, Parameter& weight, const Routing& out) {
  const RouteSettings& s = kept.settings;
  const Tensor d_gates = out.gates.take_grad(), d_logits = Tensor::empty(kept.scores.shape());
  const auto seed_of = [](const Var& loss) { return loss ? loss.take_grad().data<float>()[0] : 0.0f; };
  kernels::RouteBackward back;
  back.scores = kept.scores.data<float>();
  back.chosen = kept.chosen.data<int32_t>();
  back.gates = out.gates.value().data<float>();
  back.d_gates = d_gates.data<float>();
  back.kind = s.kind;
  back.top_k = s.top_k;
  back.normalized_gates = s.normalized_gates;
  back.d_logits = d_logits.view();
  if (kept.slopes) {
    const float seed = seed_of(out.balance);
    for (float& slope : kept.slopes.span<float>()) slope *= seed;
    back.balance = kept.slopes.data<float>();
  }
  kernels::route_backward(back);
  if (s.noise == kernels::RouterNoise::gumbel) kernels::scale(d_logits.view(), 1.0f / s.temperature);
  if (kept.logits)
    kernels::router_z_backward(kept.logits.view(),
                               seed_of(out.z) * static_cast<float>(s.z_weight / static_cast<double>(d_logits.dim(0))),
                               d_logits.view());
  if (weight.trainable) kernels::router_dw(d_logits.view(), kept.x.value().view(), gradient_to_add(weight).view());
  if (!kept.x.wants_grad()) return;
  const Tensor dx = Tensor::empty(kept.x.shape(), kept.x.value().dtype());
  kernels::router_dx(d_logits.view(), weight.value.view(), dx.view());
  kept.x.add_grad(dx);
}

}  // namespace

Routing route(const Var& x, Parameter& weight, const Tensor& bias, const RouteSettings& s) {
  const kernels::View in = x.value().view();
  const int64_t experts = weight.value.dim(0);
  const bool recording = Tape::recording();
  Kept kept{x, {}, Tensor::empty({in.rows, experts}), Tensor::empty({in.rows, s.top_k}, DType::i32), {}, s};
  kept.settings.earlier_counts = nullptr;  // used below alone, and gone before the backward pass
  const Tensor logits = Tensor::empty({in.rows, experts}), gates = Tensor::empty({in.rows, s.top_k});
  kernels::router_logits(in, weight.value.view(), logits.view());
  Routing result;
  result.finite = kernels::all_finite(logits.view());
  if (!result.finite) return result;
  if (s.z_weight > 0) kept.logits = s.noise == kernels::RouterNoise::none ? logits : logits.clone();
  kernels::add_router_noise(logits.view(), s.noise, s.temperature, s.seed);
  kernels::RouteForward forward;
  forward.logits = logits.view();
  forward.kind = s.kind;
  forward.top_k = s.top_k;
  forward.normalized_gates = s.normalized_gates;
  forward.bias = bias ? bias.data<float>() : nullptr;
  forward.scores = kept.scores.data<float>();
  forward.chosen = kept.chosen.data<int32_t>();
  forward.gates = gates.data<float>();
  kernels::route_forward(forward);
  result.plan = plan_of(kept.chosen, experts, s.capacity_factor);
  result.gates = Var(gates, recording);
  const bool balanced = s.balance_weight > 0;
  if (balanced || s.entropy) {
    const std::vector<double> mean = mean_scores(kept.scores, s.entropy, result.entropy);
    if (balanced) kept.slopes = balance_slopes(mean, *result.plan, s, result.balance_loss);
  }
  if (kept.logits) result.z_loss = s.z_weight * mean_z(kept.logits);
  const auto term = [&](double loss) { return Var(Tensor::of({1}, {static_cast<float>(loss)}), recording); };
  if (balanced) result.balance = term(result.balance_loss);
  if (kept.logits) result.z = term(result.z_loss);
  if (recording) Tape::record([kept, &weight, result] { backward(kept, weight, result); });
  return result;
}

Var gather_slots(const Var& x, const std::shared_ptr<const RoutePlan>& plan) {
  const Tensor y = Tensor::empty({plan->slots, x.value().dim(-1)}, x.value().dtype());
  kernels::gather_slots(x.value().view(), plan->sources.data<int32_t>(), y.view());
  if (!Tape::recording()) return Var(y);
  const Var output(y, true);
  Tape::record([x, plan, output] {
    if (!x.wants_grad()) return;
    const Tensor dx = Tensor::empty(x.shape(), x.value().dtype());
    kernels::combine_slots(output.take_grad().view(), nullptr, plan->places.data<int32_t>(), plan->top_k, false,
                           dx.view());
    x.add_grad(dx);
  });
  return output;
}

namespace {

// f(expert, first row, rows) for each expert that has rows.
template <class F>
void each_expert(const RoutePlan& plan, F&& f) {
  for (size_t e = 0; e + 1 < plan.offsets.size(); ++e)
    if (const int64_t rows = plan.offsets[e + 1] - plan.offsets[e]) f(e, plan.offsets[e], rows);
}

// All experts in one loop over the threads: of a step of generation, or of small batches, each has so few rows that
// waiting for the threads after each would cost more than its share. False where the weights are not for it.
bool multiply_together(const Tensor& x, const RoutePlan& plan, const std::vector<ExpertLinear>& experts,
                       const Tensor& y, bool eight_bits) {
  std::vector<kernels::PackedProduct> products;
  bool packed = true;
  each_expert(plan, [&](size_t e, int64_t first, int64_t rows) {
    if (!packed) return;
    const Weight& weight = *experts[e].weight;
    const auto integers = eight_bits ? weight.integers(false) : std::nullopt;
    const auto matrix = integers ? integers : weight.packed(x.dtype());
    packed = matrix.has_value();
    if (!packed) return;
    products.push_back({*matrix, x.rows(first, rows).view(), y.rows(first, rows).view()});
    if (integers) products.back().eight_bits = kernels::Rounding();
  });
  if (packed) kernels::packed_matmul_each(products);
  return packed;
}

}  // namespace

Var grouped_linear(const Var& x, const std::shared_ptr<const RoutePlan>& plan, std::vector<ExpertLinear> experts,
                   std::optional<EightBits> eight_bits) {
  const Tensor y = Tensor::empty({plan->slots, experts.front().weight->rows()}, x.value().dtype());
  const bool done = multiply_together(x.value(), *plan, experts, y, eight_bits.has_value());
  each_expert(*plan, [&](size_t e, int64_t first, int64_t rows) {
    const Tensor out = y.rows(first, rows);
    if (!done) experts[e].weight->matmul(x.value().rows(first, rows).view(), out.view());
    if (experts[e].bias) kernels::add_bias(out.view(), experts[e].bias->value.data<float>());
  });
  if (!Tape::recording()) return Var(y);
  const Var output(y, true);
  Tape::record([x, plan, experts = std::move(experts), eight_bits, output] {
    const Tensor dy = output.take_grad();
    const Tensor dx = x.wants_grad() ? Tensor::empty(x.shape(), x.value().dtype()) : Tensor();
    each_expert(*plan, [&](size_t e, int64_t first, int64_t rows) {
      const kernels::View d = dy.rows(first, rows).view();
      if (Parameter* bias = experts[e].bias; bias && bias->trainable)
        kernels::add_column_sums(d, gradient_to_add(*bias).data<float>());
      experts[e].weight->add_dw(d, x.value().rows(first, rows).view());
      if (!dx) return;
      const auto own = eight_bits ? std::optional(EightBits{mix64(eight_bits->seed ^ mix64(e))}) : std::nullopt;
      input_gradient(*experts[e].weight, d, dx.rows(first, rows).view(), own);
    });
    if (dx) x.add_grad(dx);
  });
  return output;
}

Var combine_slots(const Var& slots, const Var& gates, const std::shared_ptr<const RoutePlan>& plan, const Var& base) {
  const Tensor y = base ? base.value() : Tensor::empty({plan->rows, slots.value().dim(-1)}, slots.value().dtype());
  kernels::combine_slots(slots.value().view(), gates.value().data<float>(), plan->places.data<int32_t>(), plan->top_k,
                         static_cast<bool>(base), y.view());
  if (!Tape::recording()) return Var(y);
  const Var output(y, true);
  if (base) base.drop_value();  // it is the output's now
  Tape::record([slots, gates, plan, base, output] {
    const Tensor dy = output.take_grad();
    const Tensor d_slots = Tensor::empty(slots.shape(), slots.value().dtype()), d_gates = Tensor::empty(gates.shape());
    kernels::combine_slots_backward(dy.view(), slots.value().view(), gates.value().data<float>(),
                                    plan->places.data<int32_t>(), plan->top_k, d_slots.view(), d_gates.data<float>());
    slots.add_grad(d_slots);
    gates.add_grad(d_gates);
    if (base) base.add_grad(dy);
  });
  return output;
}

RowGates row_gates(const Var& x, Parameter& weight, float most) {
  const bool recording = Tape::recording();
  const int64_t rows = x.shape()[0];
  const Tensor scores = Tensor::empty({rows, 1}), gates = Tensor::empty({rows, 1});
  kernels::router_logits(x.value().view(), weight.value.view(), scores.view());
  for (int64_t r = 0; r < rows; ++r) gates.data<float>()[r] = most / (1 + std::exp(-scores.data<float>()[r]));
  const RowGates result = {scores.reshape({rows}), Var(gates, recording)};
  if (!recording) return result;
  Tape::record([x, gates = result.gates, &weight, most] {
    const Tensor d = gates.take_grad();
    for (int64_t r = 0; r < d.dim(0); ++r) {
      const float gate = gates.value().data<float>()[r];
      d.data<float>()[r] *= gate * (1 - gate / most);
    }
    if (weight.trainable) kernels::router_dw(d.view(), x.value().view(), gradient_to_add(weight).view());
    if (!x.wants_grad()) return;
    const Tensor dx = Tensor::empty(x.shape(), x.value().dtype());
    kernels::router_dx(d.view(), weight.value.view(), dx.view());
    x.add_grad(dx);
  });
  return result;
}

Var scale_rows(const Var& x, const Var& gates) {
  const std::vector<int32_t> first(static_cast<size_t>(x.shape()[0]), 0);
  return combine_slots(x, gates, plan_of_rows(first, 1), Var());
}

}  // namespace hone::ops
