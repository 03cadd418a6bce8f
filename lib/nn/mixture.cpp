#include "nn/mixture.h"

namespace hone {

Mixture::Mixture(const BlockBlueprint& blueprint, const LayerBlueprint& layer, const Share& experts)
    : kind_(layer.router), top_k_(layer.top_k), normalized_gates_(layer.normalized_gates), share_(experts) {
  const auto scores = [&](int64_t count) {
    auto parameter = std::make_shared<Parameter>();
    parameter->value = Tensor::promised({count, blueprint.dim});
    parameter->decay = true;
    return parameter;
  };
  router_ = scores(layer.experts);
  router_bias_ = std::make_shared<Parameter>();
  router_bias_->value = Tensor::zeros({layer.experts});
  router_bias_->trainable = false;
  for (int64_t e = 0; e < layer.experts; ++e) {
    DenseFeedForward& expert = experts_.emplace_back(blueprint, layer.ffn);
    if (share_.thing(e, layer.experts).here()) continue;
    for (const auto& bias : {expert.up.bias, expert.down.bias})
      if (bias) bias->value = Tensor::promised(bias->value.shape());
  }
  if (layer.shared_experts > 0) shared_.emplace(blueprint, layer.shared_experts * layer.ffn);
  if (layer.shared_gate) shared_gate_ = scores(1);
}

namespace {

LayerRouting report_of(const ops::Routing& routing) {
  LayerRouting layer;
  layer.load = routing.plan->counts;
  layer.tokens = routing.plan->rows;
  layer.dropped = routing.plan->left_out();
  layer.entropy = routing.entropy;
  layer.balance_loss = routing.balance_loss;
  layer.z_loss = routing.z_loss;
  layer.calls = 1;
  return layer;
}

// One linear layer of every expert over the experts' rows.
Var expert_linear(const Var& rows, const Call& call, const std::shared_ptr<const ops::RoutePlan>& plan,
                  std::span<const DenseFeedForward> experts, Linear DenseFeedForward::*which,
                  std::optional<ops::EightBits> eight_bits) {
  const auto& offsets = plan->offsets;
  std::vector<ops::ExpertLinear> layers;
  layers.reserve(experts.size());
  for (size_t e = 0; e < experts.size(); ++e) {
    const Linear& linear = experts[e].*which;
    layers.push_back({linear.weight, linear.bias.get()});
    const int64_t count = offsets[e + 1] - offsets[e];
    if (call.trace.inputs && count > 0)
      call.trace.inputs->observe(*linear.weight, rows.value().rows(offsets[e], count).view());
  }
  return ops::grouped_linear(rows, plan, std::move(layers), eight_bits);
}

}  // namespace

ops::Routing Mixture::route(const Var& x, const Call& call, int64_t layer) const {
  const RouterCall& c = call.router;
  ops::RouteSettings s;
  s.kind = kind_;
  s.top_k = top_k_;
  s.normalized_gates = normalized_gates_;
  s.noise = c.noise;
  s.temperature = c.temperature;
  s.seed = call.noise.at(layer, Site::router);
  s.balance_weight = c.balance_weight;
  if (c.earlier && layer < static_cast<int64_t>(c.earlier->size())) {
    const std::vector<int64_t>& earlier = (*c.earlier)[static_cast<size_t>(layer)].load;
    if (!earlier.empty()) s.earlier_counts = &earlier;
  }
  s.z_weight = c.z_weight;
  s.capacity_factor = c.capacity_factor;
  s.entropy = call.trace.routing != nullptr;
  return ops::route(x, *router_, router_bias_->value, s);
}

// The experts that are here, each on its rows of the plan.
Var Mixture::process(const Var& rows, const Call& call, int64_t layer,
                     const std::shared_ptr<const ops::RoutePlan>& plan) const {
  const auto all = static_cast<int64_t>(experts_.size());
  const auto here =
      std::span(experts_).subspan(static_cast<size_t>(share_.first(all)), static_cast<size_t>(share_.of(all)));
  // Where nobody's rows come, no product runs; what came and what goes back keep their places on the tape.
  if (plan->slots == 0) return Var(Tensor::empty(rows.shape(), rows.value().dtype()), Tape::recording());
  const Var hidden =
      info_of(here.front().activation)
          .function(expert_linear(rows, call, plan, here, &DenseFeedForward::up, call.eight_bits_at(layer, Site::up)));
  return expert_linear(hidden, call, plan, here, &DenseFeedForward::down, call.eight_bits_at(layer, Site::down));
}

// `ways`: to the owners, where ranks have rows of their own.
Var Mixture::process_by_ranks(const Var& x, const Call& call, int64_t layer,
                              const std::shared_ptr<const ops::RoutePlan>& plan,
                              const std::shared_ptr<const ops::ExpertRoute>& ways) const {
  if (ways) {
    const Var slots = ops::gather_slots(x, plan), owned = ops::to_owners(slots, ways);
    const Var made = process(owned, call, layer, ways->owned), back = ops::from_owners(made, ways);
    if (Tape::recording())  // they have been sent
      for (const Var& sent : {slots, made}) sent.drop_value();
    return back;
  }
  const auto own = ops::plan_of_share(*plan, share_);
  const Var rows =
      own->slots > 0 ? ops::gather_slots(x, own) : Var(Tensor::empty({0, x.value().dim(-1)}, x.value().dtype()));
  return Var(ops::slots_of_all(process(rows, call, layer, own).value(), *plan, *call.ranks));
}

Var Mixture::shared(const Var& x, const Call& call, int64_t layer) const {
  if (!shared_) return Var();
  Call summed = call;
  summed.unread = false;  // the experts' sum is added to it
  const Var y = shared_->forward(x, summed, layer).y;
  return shared_gate_ ? ops::scale_rows(y, ops::row_gates(x, *shared_gate_, 1).gates) : y;
}

FeedForwardOutput Mixture::forward(const Var& x, const Call& call, int64_t layer) const {
  const ops::Routing routing = route(x, call, layer);
  const bool by_ranks = share_.count > 1;
  if (by_ranks && !call.own_rows && Tape::recording()) throw internal_error("ranks train experts on rows of their own");
  std::shared_ptr<const ops::ExpertRoute> ways;
  if (by_ranks && call.own_rows)
    ways = ops::route_to_owners(routing.plan.get(), static_cast<int64_t>(experts_.size()), call.ranks);
  if (!routing.finite || (by_ranks && call.own_rows && !ways))
    throw RouterError(ErrorKind::input,
                      fmt::format("the router of layer {} (blocks.{}.feed_forward.router) gives numbers that "
                                  "are not finite",
                                  layer, layer));
  if (ModelRouting* report = call.trace.routing) {
    ModelRouting mine(static_cast<size_t>(layer) + 1);
    mine.back() = report_of(routing);
    add(*report, mine);
  }
  const Var base = shared(x, call, layer);
  const Var slots = by_ranks ? process_by_ranks(x, call, layer, routing.plan, ways)
                             : process(ops::gather_slots(x, routing.plan), call, layer, routing.plan);
  FeedForwardOutput out{ops::combine_slots(slots, routing.gates, routing.plan, base), {}};
  if (routing.balance) out.terms.push_back({"balance", routing.balance, 1, LossOf::router});
  if (routing.z) out.terms.push_back({"router_z", routing.z, 1, LossOf::router});
  return out;
}

void Mixture::visit(const Place& at, Visitor& visitor) {
  visitor.parameter(at.in("router").info("weight", Role::router), *router_);
  visitor.parameter(at.in("router").info("bias", Role::router_bias), *router_bias_);
  if (shared_) {
    Place shared = at.in("shared");
    shared.shared = true;
    shared_->visit(shared, visitor);
  }
  if (shared_gate_) visitor.parameter(at.in("shared_gate").info("weight", Role::shared_gate), *shared_gate_);
  visitor.begin_experts(static_cast<int64_t>(experts_.size()), top_k_);
  for (size_t e = 0; e < experts_.size(); ++e) {
    Place expert = at.in_expert(static_cast<int64_t>(e));
    expert.part = share_.thing(expert.expert, static_cast<int64_t>(experts_.size()));
    experts_[e].visit(expert, visitor);
  }
  visitor.end_experts();
}

void Mixture::balance(const std::vector<int64_t>& load, double rate) {
  int64_t total = 0;
  for (const int64_t tokens : load) total += tokens;
  const int64_t experts = static_cast<int64_t>(load.size());
  for (int64_t e = 0; e < experts; ++e) {
    // Whole numbers: equal loads move nothing.
    const int64_t lack = total - load[static_cast<size_t>(e)] * experts;
    float& bias = router_bias_->value.data<float>()[e];
    bias += static_cast<float>(rate * static_cast<double>((lack > 0) - (lack < 0)));
  }
  ++router_bias_->version;
}

}  // namespace hone
