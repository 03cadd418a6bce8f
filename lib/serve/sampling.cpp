#include "serve/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "kernels/rows/vocabulary_part.h"
#include "kernels/scratch.h"

namespace hone {

void check(const SamplingSettings& s) {
  if (!(s.temperature >= 0 && std::isfinite(s.temperature)))
    throw usage_error("the temperature must be 0 or more, not {}", s.temperature);
  if (s.top_k < 0) throw usage_error("top-k must be 0 (all tokens) or more, not {}", s.top_k);
  if (!(s.top_p > 0 && s.top_p <= 1)) throw usage_error("top-p must be above 0 and at most 1, not {}", s.top_p);
  if (!(s.repetition_penalty > 0 && std::isfinite(s.repetition_penalty)))
    throw usage_error("the repetition penalty must be above 0, not {}", s.repetition_penalty);
}

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr size_t lanes = 16;  // sums and maxima that run beside each other: compilers keep them in registers

[[noreturn]] void damaged(size_t token, float logit) {
  throw input_error("the model gives token {} the logit {}: its weights are damaged or training diverged", token,
                    logit);
}

// The largest logit of the tokens from `first` on; -infinity of none. Throws where one is not below infinity.
float largest_of(std::span<const float> logits, size_t first) {
  float most[lanes];
  uint32_t wrong[lanes] = {};
  std::fill_n(most, lanes, -infinity);
  const auto look = [&](size_t i, size_t lane) {
    most[lane] = logits[i] > most[lane] ? logits[i] : most[lane];
    wrong[lane] |= !(logits[i] < infinity);
  };
  const size_t whole = logits.size() / lanes * lanes;
  for (size_t i = 0; i < whole; i += lanes)
    for (size_t lane = 0; lane < lanes; ++lane) look(i + lane, lane);
  for (size_t i = whole; i < logits.size(); ++i) look(i, i - whole);
  if (std::ranges::any_of(wrong, [](uint32_t any) { return any != 0; }))
    for (size_t i = 0; i < logits.size(); ++i)
      if (!(logits[i] < infinity)) damaged(first + i, logits[i]);
  return *std::ranges::max_element(most);
}

double sum_of(std::span<const double> values) {
  double sums[lanes] = {};
  const size_t whole = values.size() / lanes * lanes;
  for (size_t i = 0; i < whole; i += lanes)
    for (size_t lane = 0; lane < lanes; ++lane) sums[lane] += values[i + lane];
  for (size_t i = whole; i < values.size(); ++i) sums[i - whole] += values[i];
  return std::accumulate(sums, sums + lanes, 0.0);
}

// All tokens by exp((logit - largest) / temperature). Each computed and added for itself, 50,000 of them take half a
// millisecond: for 64 texts a good part of a step.
void weigh_all(std::span<const float> logits, float largest, double temperature, int32_t banned, Distribution& to) {
  thread_local kernels::Scratch scratch;
  const auto count = static_cast<int64_t>(logits.size());
  float* const row = scratch.array<float>(count);
  // Neither so large that 0 times it is no number, nor 0, by which -infinity is none.
  const auto scale = static_cast<float>(std::clamp(1 / temperature, 1e-30, 1e30));
  for (size_t i = 0; i < logits.size(); ++i) row[i] = (logits[i] - largest) * scale;
  const float nothing = 0, one = 1;
  const int32_t no_target = -1;
  kernels::logit_gradient({.logits = {row, DType::f32, 1, count, count},
                           .tokens = count,
                           .targets = &no_target,
                           .log_sums = &nothing,
                           .factors = &one});
  if (banned >= 0 && banned < count) row[banned] = 0;
  // The kernel gives no less than exp(-87), also for what has no probability at all.
  constexpr float nothing_at_all = 2 * std::numeric_limits<float>::min();
  to.weights.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    const float more = row[i] - nothing_at_all;
    to.weights[i] = more > 0 ? more : 0;
  }
  to.total = sum_of(to.weights);
  to.ids.resize(logits.size());
  std::iota(to.ids.begin(), to.ids.end(), 0);
}

// The fewest tokens that have this part of the total together, the most probable first.
void keep_most_probable(double part, Distribution& of) {
  // Those below this share hold less than 1 - part together, so none of them is needed: few are left to sort.
  const double least = (1 - part) * of.total / static_cast<double>(of.weights.size());
  std::vector<size_t> order;
  for (size_t i = 0; i < of.weights.size(); ++i)
    if (of.weights[i] >= least) order.push_back(i);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return of.weights[a] != of.weights[b] ? of.weights[a] > of.weights[b] : of.ids[a] < of.ids[b];
  });
  Distribution kept;
  double sum = 0;
  for (size_t i = 0; i < order.size() && (i == 0 || sum < part * of.total); ++i) {
    kept.ids.push_back(of.ids[order[i]]);
    kept.weights.push_back(of.weights[order[i]]);
    sum += kept.weights.back();
  }
  kept.total = sum;
  of = std::move(kept);
}

}  // namespace

Sampler::Sampler(const SamplingSettings& settings, Random random) : settings_(settings), random_(random) {
  check(settings_);
}

const Distribution& Sampler::distribution(std::span<const float> logits, std::span<const int32_t> seen,
                                          int32_t banned) {
  if (settings_.repetition_penalty != 1 || settings_.top_k > 0) {
    choose_candidates(logits, seen, banned);
  } else {
    const size_t without = banned >= 0 ? std::min(static_cast<size_t>(banned), logits.size()) : logits.size();
    const size_t behind = std::min(without + 1, logits.size());
    const float largest = std::max(largest_of(logits.first(without), 0), largest_of(logits.subspan(behind), behind));
    if (without < behind && !(logits[without] < infinity)) damaged(without, logits[without]);
    if (largest == -infinity) throw input_error("the model gives every token the probability 0");
    if (settings_.temperature == 0) {
      size_t first = 0;
      while (logits[first] != largest || first == without) ++first;
      return distribution_ = Distribution::certain(static_cast<int32_t>(first));
    }
    weigh_all(logits, largest, settings_.temperature, banned, distribution_);
  }
  if (settings_.top_p < 1 && settings_.temperature > 0) keep_most_probable(settings_.top_p, distribution_);
  return distribution_;
}

void Sampler::choose_candidates(std::span<const float> logits, std::span<const int32_t> seen, int32_t banned) {
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] < infinity)) damaged(i, logits[i]);
    candidates_.push_back({logits[i], static_cast<int32_t>(i)});
  }
  if (banned >= 0 && static_cast<size_t>(banned) < candidates_.size())
    candidates_[static_cast<size_t>(banned)].logit = -infinity;
  if (settings_.repetition_penalty != 1) penalize(seen);
  std::erase_if(candidates_, [](const Candidate& c) { return std::isinf(c.logit); });
  if (candidates_.empty()) throw input_error("the model gives every token the probability 0");
  if (settings_.temperature == 0) {
    distribution_ = Distribution::certain(most_probable());
    return;
  }
  keep_top_k();
  weigh();
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
  float highest = -infinity;
  for (const Candidate& c : candidates_) highest = std::max(highest, c.logit);
  distribution_.ids.clear();
  distribution_.weights.clear();
  for (const Candidate& c : candidates_) {
    distribution_.ids.push_back(c.id);
    distribution_.weights.push_back(
        std::exp((static_cast<double>(c.logit) - static_cast<double>(highest)) / settings_.temperature));
  }
  distribution_.total = sum_of(distribution_.weights);
}

int32_t Sampler::draw(const Distribution& from) {
  if (settings_.temperature == 0) return from.ids.front();
  double rest = random_.uniform() * from.total;
  constexpr size_t block = 16 * lanes;
  size_t i = 0;
  for (; i + block <= from.ids.size(); i += block) {
    const double sum = sum_of(std::span(from.weights).subspan(i, block));
    if (rest < sum) break;
    rest -= sum;
  }
  for (; i < from.ids.size(); ++i) {
    rest -= from.weights[i];
    if (rest < 0) return from.ids[i];
  }
  // Rounding left a little: the last token that can be drawn.
  for (i = from.ids.size(); i-- > 0;)
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
