// Choosing the next token from a model's logits.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/random.h"

namespace hone {

struct SamplingSettings {
  double temperature = 1;         // logits are divided by it; 0: the most probable token, always
  int64_t top_k = 0;              // only the k most probable tokens; 0: all
  double top_p = 1;               // only the fewest tokens that have this much of the probability together
  double repetition_penalty = 1;  // above 1: tokens that occurred are less probable
};

// Throws Error(usage) for a negative or infinite temperature, a negative top_k, a top_p outside (0, 1] and a penalty
// that is not above 0.
void check(const SamplingSettings& settings);

// What a token is drawn from: tokens, and how probable each is. Weights have any common unit.
struct Distribution {
  std::vector<int32_t> ids;
  std::vector<double> weights;
  double total = 0;

  static Distribution certain(int32_t id) { return {{id}, {1.0}, 1.0}; }
};

// Draws from a stream of its own: the same settings, stream and logits give the same tokens, whatever the machine's
// threads. Tokens of equal probability are ordered by id.
class Sampler {
 public:
  Sampler(const SamplingSettings& settings, Random random);

  // The next token after `seen` (used by the repetition penalty alone, Keskar et al., arXiv 1909.05858, section 4.1):
  // temperature first, then top_k, then top_p among what top_k left (Holtzman et al., arXiv 1904.09751). `banned` is a
  // token never to choose, -1 for none. Throws Error(input) if a logit is not a number or all are -infinity.
  int32_t next(std::span<const float> logits, std::span<const int32_t> seen, int32_t banned = -1) {
    return draw(distribution(logits, seen, banned));
  }
  // Its two halves. With temperature 0 one token has all the weight, and drawing it takes no random number.
  const Distribution& distribution(std::span<const float> logits, std::span<const int32_t> seen, int32_t banned = -1);
  int32_t draw(const Distribution& from);

  // Speculative sampling (Leviathan et al. 2023, arXiv 2211.17192, section 2.3): `drafted` was drawn from `guess`; the
  // result is distributed as `wanted`, and it is `drafted` as often as that can be.
  int32_t verify(const Distribution& wanted, int32_t drafted, const Distribution& guess);

  const Random& random() const { return random_; }

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };

  void choose_candidates(std::span<const float> logits, std::span<const int32_t> seen, int32_t banned);
  void penalize(std::span<const int32_t> seen);
  int32_t most_probable() const;
  void keep_top_k();
  void weigh();

  SamplingSettings settings_;
  Random random_;
  std::vector<Candidate> candidates_;
  Distribution distribution_;
  std::vector<double> guessed_;  // probabilities by id, for verify()
};

}  // namespace hone
