#include "nn/depth_router.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/error.h"

namespace hone {

// ---- state ----

DepthState::DepthState(std::unique_ptr<LayerState> inner, int64_t sequences)
    : inner_(std::move(inner)), positions_(static_cast<size_t>(sequences)), most_(static_cast<size_t>(sequences), 0) {}

StateShape DepthState::inner_shape(StateShape shape) {
  shape.pages = 0;
  shape.table = nullptr;
  return shape;
}

int64_t DepthState::count(int64_t sequence, int64_t length) const {
  const std::vector<int32_t>& all = positions_[static_cast<size_t>(sequence)];
  return std::ranges::lower_bound(all, length) - all.begin();
}

int64_t DepthState::before(int64_t sequence, int64_t position) {
  cut(sequence, count(sequence, position));
  return static_cast<int64_t>(of(sequence).size());
}

void DepthState::add(int64_t sequence, int32_t position) {
  of(sequence).push_back(position);
  size_t& most = most_[static_cast<size_t>(sequence)];
  most = std::max(most, of(sequence).size());
}

// The inner state must keep its own earliest tokens, the last of which went through here at that position.
int64_t DepthState::earliest(int64_t sequence, int64_t length) const {
  const auto s = static_cast<size_t>(sequence);
  const int64_t passed = count(sequence, length);
  if (passed == 0) return 1;
  const int64_t least = inner_->earliest(sequence, std::max(passed, static_cast<int64_t>(most_[s])));
  return least == 0 ? 1 : positions_[s][static_cast<size_t>(std::min(least, passed)) - 1] + 1;
}

void DepthState::truncate(int64_t sequence, int64_t length, int64_t tokens) {
  const int64_t passed = count(sequence, length), stay = count(sequence, tokens);
  if (stay < passed) inner_->truncate(sequence, passed, stay);
  cut(sequence, stay);
}

void DepthState::cut(int64_t sequence, int64_t stay) {
  of(sequence).resize(static_cast<size_t>(stay));
  if (stay == 0) most_[static_cast<size_t>(sequence)] = 0;
}

std::vector<Tensor> DepthState::keep(int64_t sequence, int64_t length) const {
  const int64_t passed = count(sequence, length);
  std::vector<Tensor> kept = inner_->keep(sequence, passed);
  const Tensor positions = Tensor::empty({std::max<int64_t>(passed, 1)}, DType::i32);
  positions.data<int32_t>()[0] = -1;  // none
  std::copy_n(positions_[static_cast<size_t>(sequence)].data(), passed, positions.data<int32_t>());
  kept.push_back(positions);
  return kept;
}

void DepthState::restore(int64_t sequence, int64_t, const std::vector<Tensor>& kept) {
  const auto positions = kept.back().span<int32_t>();
  of(sequence).assign(positions.begin(), positions.end());
  if (positions.front() < 0) of(sequence).clear();
  most_[static_cast<size_t>(sequence)] = of(sequence).size();
  inner_->restore(sequence, static_cast<int64_t>(of(sequence).size()), {kept.begin(), kept.end() - 1});
}

// ---- router ----

namespace {

// Of the predictor's loss: small, so that its gradients take little of a clipped norm. AdamW moves it as far either
// way.
constexpr float predictor_weight = 0.1f;

std::shared_ptr<Parameter> matrix(int64_t rows, int64_t cols) {
  auto parameter = std::make_shared<Parameter>();
  parameter->value = Tensor::promised({rows, cols});
  parameter->decay = true;
  return parameter;
}

std::shared_ptr<Parameter> bias(int64_t size) {
  auto parameter = std::make_shared<Parameter>();
  parameter->value = Tensor::zeros({size});
  return parameter;
}

// Best of each span.
std::vector<uint8_t> best_of_spans(const Tensor& scores, const Batch& batch, double fraction) {
  std::vector<uint8_t> best;
  for (const Span& span : batch.spans()) {
    const std::vector<uint8_t> part = best_of(
        std::span<const float>(scores.span<float>()).subspan(best.size(), static_cast<size_t>(span.count)), fraction);
    best.insert(best.end(), part.begin(), part.end());
  }
  return best;
}

std::vector<uint8_t> above_zero(const Tensor& logits) {
  std::vector<uint8_t> above;
  for (const float z : logits.span<float>()) above.push_back(z > 0);
  return above;
}

void require_finite(const Tensor& t, int64_t layer) {
  if (std::ranges::all_of(t.span<float>(), [](float x) { return std::isfinite(x); })) return;
  throw RouterError(
      ErrorKind::input,
      fmt::format("the router of depth of layer {} (blocks.{}.depth_router) gives numbers that are not finite", layer,
                  layer));
}

// Makes the plan and the call of those that pass, of the call of all rows that is there.
void let_through(DepthRouter::Choice& choice, const std::vector<uint8_t>& passes, DepthState* state) {
  const Batch& batch = choice.call.batch;
  std::vector<int32_t> rows;
  std::vector<Span> spans;
  int64_t row = 0;
  for (const Span& span : batch.spans()) {
    Span some = {span.sequence, state ? state->before(span.sequence, span.first) : 0, 0,
                 state ? Phase::step : span.phase};
    for (const int64_t end = row + span.count; row < end; ++row) {
      if (!passes[static_cast<size_t>(row)]) continue;
      const int32_t position = batch.positions()[static_cast<size_t>(row)];
      rows.push_back(static_cast<int32_t>(row));
      if (state) state->add(span.sequence, position);
      ++some.count;
    }
    if (some.count > 0) spans.push_back(some);
  }
  choice.plan = ops::passing_plan(rows, batch.rows());
  choice.call.batch = Batch(std::move(spans), batch, rows);
  choice.call.unread = false;  // what the layer gives is weighted
}

void report(ModelDepth& to, int64_t layer, const std::vector<uint8_t>& passes, const std::vector<uint8_t>* best,
            const std::vector<uint8_t>& predicted) {
  ModelDepth mine(static_cast<size_t>(layer) + 1);
  LayerDepth& depth = mine.back();
  depth.tokens = static_cast<int64_t>(passes.size());
  depth.passed = std::accumulate(passes.begin(), passes.end(), int64_t{0});
  for (size_t i = 0; best && i < passes.size(); ++i) {
    ++depth.compared;
    depth.agreed += (*best)[i] == predicted[i];
  }
  add(to, mine);
}

}  // namespace

int64_t passing_tokens(int64_t tokens, double fraction) {
  return std::max<int64_t>(1, std::llround(fraction * static_cast<double>(tokens)));
}

std::vector<uint8_t> best_of(std::span<const float> scores, double fraction) {
  const auto most = static_cast<size_t>(passing_tokens(static_cast<int64_t>(scores.size()), fraction));
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(
      order, [&](int32_t a, int32_t b) { return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)]; });
  std::vector<uint8_t> best(scores.size(), 0);
  for (size_t i = 0; i < std::min(most, order.size()); ++i) best[static_cast<size_t>(order[i])] = 1;
  return best;
}

DepthRouter::DepthRouter(const BlockBlueprint& blueprint, const LayerBlueprint& layer)
    : norm(Norm::make(blueprint)),
      fraction_(layer.depth_fraction),
      weight_(matrix(1, blueprint.dim)),
      hidden_(matrix(depth_predictor_width, blueprint.dim)),
      hidden_bias_(bias(depth_predictor_width)),
      output_(matrix(1, depth_predictor_width)),
      output_bias_(bias(1)) {}

DepthRouter::Choice DepthRouter::choose(const Var& y, const Call& call, int64_t layer, DepthState* state) const {
  Choice choice{nullptr, call, Var(), {}};
  const ops::RowGates scored = ops::depth_scores(y, *weight_);
  choice.gates = scored.gates;
  require_finite(scored.scores, layer);
  std::vector<uint8_t> best;
  Tensor logits;
  const bool best_pass = call.best_pass && !state;
  const bool known = best_pass || (call.trace.depth && !state);  // of whole sequences
  if (known) best = best_of_spans(scored.scores, call.batch, fraction_);
  if (best_pass) {
    const ops::DepthPrediction prediction = ops::depth_prediction(y.value(), predictor(), best);
    logits = prediction.logits;
    choice.terms.push_back({"depth_predictor", prediction.loss, predictor_weight, LossOf::other});
  } else {
    logits = ops::predicted(y.value(), predictor());
  }
  require_finite(logits, layer);
  const std::vector<uint8_t> predicted = above_zero(logits), &passes = best_pass ? best : predicted;
  if (call.trace.depth) report(*call.trace.depth, layer, passes, known ? &best : nullptr, predicted);

  let_through(choice, passes, state);
  return choice;
}

void DepthRouter::visit(const Place& at, Visitor& visitor) {
  norm.visit(at.in("norm"), NormOf::depth_router, visitor);
  visitor.parameter(at.info("weight", Role::depth_router), *weight_);
  const Place of = at.in("predictor");
  const auto biased = [&](const char* name, Parameter& parameter) {
    ParameterInfo info = of.info(name, Role::bias);
    info.of = Role::depth_router;
    visitor.parameter(info, parameter);
  };
  visitor.parameter(of.info("hidden", Role::depth_router), *hidden_);
  biased("hidden_bias", *hidden_bias_);
  visitor.parameter(of.info("output", Role::depth_router), *output_);
  biased("output_bias", *output_bias_);
}

}  // namespace hone
