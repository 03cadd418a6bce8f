#include "serve/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace hone {

void check(const SamplingSettings& s) {
  if (!(s.temperature >= 0 && std::isfinite(s.temperature)))
    throw usage_error("the temperature must be 0 or more, not {}", s.temperature);
  if (s.top_k < 0) throw usage_error("top-k must be 0 (all tokens) or more, not {}", s.top_k);
  if (!(s.top_p > 0 && s.top_p <= 1)) throw usage_error("top-p must be above 0 and at most 1, not {}", s.top_p);
  if (!(s.repetition_penalty > 0 && std::isfinite(s.repetition_penalty)))
    throw usage_error("the repetition penalty must be above 0, not {}", s.repetition_penalty);
}

Sampler::Sampler(const SamplingSettings& settings, Random random) : settings_(settings), random_(random) {
  check(settings_);
}

const Distribution& Sampler::distribution(std::span<const float> logits, std::span<const int32_t> seen,
                                          int32_t banned) {
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] < std::numeric_limits<float>::infinity()))
      throw input_error("the model gives token {} the logit {}: its weights are damaged or training diverged", i,
                        logits[i]);
    candidates_.push_back({logits[i], static_cast<int32_t>(i)});
  }
  if (banned >= 0 && static_cast<size_t>(banned) < candidates_.size())
    candidates_[static_cast<size_t>(banned)].logit = -std::numeric_limits<float>::infinity();
  if (settings_.repetition_penalty != 1) penalize(seen);
  std::erase_if(candidates_, [](const Candidate& c) { return std::isinf(c.logit); });
  if (candidates_.empty()) throw input_error("the model gives every token the probability 0");
  if (settings_.temperature == 0) return distribution_ = Distribution::certain(most_probable());
  keep_top_k();
  weigh();
  keep_top_p();
  distribution_.ids.clear();
  for (const Candidate& c : candidates_) distribution_.ids.push_back(c.id);
  distribution_.weights = weights_;
  distribution_.total = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  return distribution_;
}

// Logits of either sign move down (by a penalty above 1).
void Sampler::penalize(std::span<const int32_t> seen) {
  const float penalty = static_cast<float>(settings_.repetition_penalty);
  std::vector<bool> done(candidates_.size());
  for (const int32_t id : seen) {
    const auto at = static_cast<size_t>(id);
    if (at >= done.size() || done[at]) continue;
    done[at] = true;
    float& logit = candidates_[at].logit;
    logit = logit > 0 ? logit / penalty : logit * penalty;
  }
}

int32_t Sampler::most_probable() const {
  return std::max_element(candidates_.begin(), candidates_.end(),
                          [](const Candidate& a, const Candidate& b) { return a.logit < b.logit; })
      ->id;  // the first of equal ones
}

void Sampler::keep_top_k() {
  const auto k = static_cast<size_t>(settings_.top_k);
  if (k == 0 || k >= candidates_.size()) return;
  std::nth_element(
      candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(k) - 1, candidates_.end(),
      [](const Candidate& a, const Candidate& b) { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; });
  candidates_.resize(k);
  // The draw walks through the candidates: their order must not depend on how the library partitions.
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
}

void Sampler::weigh() {
  float highest = -std::numeric_limits<float>::infinity();
  for (const Candidate& c : candidates_) highest = std::max(highest, c.logit);
  weights_.resize(candidates_.size());
  for (size_t i = 0; i < candidates_.size(); ++i)
    weights_[i] =
        std::exp((static_cast<double>(candidates_[i].logit) - static_cast<double>(highest)) / settings_.temperature);
}

void Sampler::keep_top_p() {
  if (settings_.top_p >= 1) return;
  const double total = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  // Candidates below this share hold less than 1 - top_p together, so none of them is needed: few are left to sort.
  const double least = (1 - settings_.top_p) * total / static_cast<double>(weights_.size());
  std::vector<size_t> order;
  for (size_t i = 0; i < weights_.size(); ++i)
    if (weights_[i] >= least) order.push_back(i);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return weights_[a] != weights_[b] ? weights_[a] > weights_[b] : candidates_[a].id < candidates_[b].id;
  });
  double sum = 0;
  size_t count = 0;
  while (count < order.size() && (count == 0 || sum < settings_.top_p * total)) sum += weights_[order[count++]];
  std::vector<Candidate> kept;
  std::vector<double> weights;
  for (size_t i = 0; i < count; ++i) {
    kept.push_back(candidates_[order[i]]);
    weights.push_back(weights_[order[i]]);
  }
  candidates_ = std::move(kept);
  weights_ = std::move(weights);
}

int32_t Sampler::draw(const Distribution& from) {
  if (settings_.temperature == 0) return from.ids.front();
  double rest = random_.uniform() * from.total;
  for (size_t i = 0; i < from.ids.size(); ++i) {
    rest -= from.weights[i];
    if (rest < 0) return from.ids[i];
  }
  // Rounding left a little: the last token that can be drawn.
  for (size_t i = from.ids.size(); i-- > 0;)
    if (from.weights[i] > 0) return from.ids[i];
  return from.ids.front();
}

int32_t Sampler::verify(const Distribution& wanted, int32_t drafted, const Distribution& guess) {
  if (settings_.temperature == 0) return wanted.ids.front();
  const auto weight_of = [](const Distribution& d, int32_t id) {
    const auto found = std::find(d.ids.begin(), d.ids.end(), id);
    return found == d.ids.end() ? 0.0 : d.weights[static_cast<size_t>(found - d.ids.begin())] / d.total;
  };
  if (random_.uniform() * weight_of(guess, drafted) < weight_of(wanted, drafted)) return drafted;
  // What the guess has too little of.
  guessed_.assign(static_cast<size_t>(*std::max_element(wanted.ids.begin(), wanted.ids.end())) + 1, 0.0);
  for (size_t i = 0; i < guess.ids.size(); ++i)
    if (const auto id = static_cast<size_t>(guess.ids[i]); id < guessed_.size())
      guessed_[id] = guess.weights[i] / guess.total;
  Distribution left;
  for (size_t i = 0; i < wanted.ids.size(); ++i) {
    const double more = wanted.weights[i] / wanted.total - guessed_[static_cast<size_t>(wanted.ids[i])];
    if (more <= 0) continue;
    left.ids.push_back(wanted.ids[i]);
    left.weights.push_back(more);
    left.total += more;
  }
  return left.ids.empty() ? drafted : draw(left);  // empty: the two are alike but for rounding
}

}  // namespace hone
