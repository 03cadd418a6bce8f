#include "nn/mixture.h"

namespace hone {

Mixture::Mixture(const BlockBlueprint& blueprint, const LayerBlueprint& layer)
    : kind_(layer.router), top_k_(layer.top_k) {
  router_.value = Tensor::empty({layer.experts, blueprint.dim});
  router_.decay = true;
  router_bias_.value = Tensor::zeros({layer.experts});
  router_bias_.trainable = false;
  for (int64_t e = 0; e < layer.experts; ++e) experts_.emplace_back(blueprint, layer.ffn);
  if (layer.shared_experts > 0) shared_.emplace(blueprint, layer.shared_experts * layer.ffn);
}

namespace {

// Adds a call's routing to what is known of its layer.
void add_to_report(const ops::Routing& routing, Forward& call) {
  std::vector<LayerRouting>& report = *call.router.report;
  if (static_cast<int64_t>(report.size()) <= call.layer) report.resize(static_cast<size_t>(call.layer) + 1);
  LayerRouting& layer = report[static_cast<size_t>(call.layer)];
  layer.load.resize(routing.plan->counts.size());
  for (size_t e = 0; e < layer.load.size(); ++e) layer.load[e] += routing.plan->counts[e];
  layer.tokens += routing.plan->rows;
  layer.dropped += routing.plan->left_out();
  layer.entropy += routing.entropy;
  layer.balance_loss += routing.balance_loss;
  layer.z_loss += routing.z_loss;
  ++layer.calls;
}

// One linear layer of every expert over the experts' rows.
Var expert_linear(const Var& rows, const ops::Routing& routing, std::vector<DenseFeedForward>& experts,
                  Linear DenseFeedForward::*which) {
  const auto& offsets = routing.plan->offsets;
  std::vector<ops::ExpertLinear> layers;
  layers.reserve(experts.size());
  for (size_t e = 0; e < experts.size(); ++e) {
    Linear& linear = experts[e].*which;
    layers.push_back({linear.weight, linear.bias ? &*linear.bias : nullptr});
    const int64_t count = offsets[e + 1] - offsets[e];
    if (linear.observer && count > 0) linear.observer->observe(rows.value().rows(offsets[e], count).view());
  }
  return ops::grouped_linear(rows, routing.plan, std::move(layers));
}

}  // namespace

ops::Routing Mixture::route(const Var& x, Forward& call) {
  const RouterCall& c = call.router;
  ops::RouteSettings s;
  s.kind = kind_;
  s.top_k = top_k_;
  s.noise = c.noise;
  s.temperature = c.temperature;
  s.seed = call.router.next_seed();
  s.balance_weight = c.balance_weight;
  if (c.report && call.layer < static_cast<int64_t>(c.report->size())) {
    const std::vector<int64_t>& earlier = (*c.report)[static_cast<size_t>(call.layer)].load;
    if (!earlier.empty()) s.earlier_counts = &earlier;
  }
  s.z_weight = c.z_weight;
  s.capacity_factor = c.capacity_factor;
  s.entropy = c.report != nullptr;
  ops::Routing routing = ops::route(x, router_, router_bias_.value, s);
  if (!routing.finite)
    throw RouterError(ErrorKind::input,
                      fmt::format("the router of layer {} (blocks.{}.feed_forward.router) gives numbers that "
                                  "are not finite",
                                  call.layer, call.layer));
  return routing;
}

FeedForwardOutput Mixture::forward(const Var& x, Forward& call) {
  const ops::Routing routing = route(x, call);
  if (call.router.report) add_to_report(routing, call);
  const Var base = shared_ ? shared_->forward(x, call).y : Var();
  const Var rows = ops::gather_slots(x, routing.plan);
  const Var hidden =
      activate(experts_.front().activation, expert_linear(rows, routing, experts_, &DenseFeedForward::up));
  const Var slots = expert_linear(hidden, routing, experts_, &DenseFeedForward::down);
  return {ops::combine_slots(slots, routing.gates, routing.plan, base), routing.loss};
}

void Mixture::visit(const std::string& prefix, Visitor& visitor) {
  visitor.parameter(prefix + ".router.weight", router_);
  visitor.parameter(prefix + ".router.bias", router_bias_);
  if (shared_) shared_->visit(prefix + ".shared", visitor);
  visitor.begin_experts(static_cast<int64_t>(experts_.size()), top_k_);
  for (size_t e = 0; e < experts_.size(); ++e) experts_[e].visit(fmt::format("{}.experts.{}", prefix, e), visitor);
  visitor.end_experts();
}

void Mixture::balance(const std::vector<int64_t>& load, double rate) {
  int64_t total = 0;
  for (const int64_t tokens : load) total += tokens;
  const int64_t experts = static_cast<int64_t>(load.size());
  for (int64_t e = 0; e < experts; ++e) {
    // Whole numbers: equal loads move nothing.
    const int64_t lack = total - load[static_cast<size_t>(e)] * experts;
    float& bias = router_bias_.value.data<float>()[e];
    bias += static_cast<float>(rate * static_cast<double>((lack > 0) - (lack < 0)));
  }
  ++router_bias_.version;
}

}  // namespace hone
