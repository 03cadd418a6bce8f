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

// Draws from a stream of its own: the same settings, stream and logits give the same tokens, whatever the machine's
// threads. Tokens of equal probability are ordered by id.
class Sampler {
 public:
  Sampler(const SamplingSettings& settings, Random random);

  // The next token after `seen` (used by the repetition penalty alone, Keskar et al., arXiv 1909.05858, section 4.1):
  // temperature first, then top_k, then top_p among what top_k left (Holtzman et al., arXiv 1904.09751). `banned` is a
  // token never to choose, -1 for none. Throws Error(input) if a logit is not a number or all are -infinity.
  int32_t next(std::span<const float> logits, std::span<const int32_t> seen, int32_t banned = -1);

  const Random& random() const { return random_; }

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };

  void penalize(std::span<const int32_t> seen);
  int32_t most_probable() const;
  void keep_top_k();
  void weigh();
  void keep_top_p();
  int32_t draw();

  SamplingSettings settings_;
  Random random_;
  std::vector<Candidate> candidates_;
  std::vector<double> weights_;  // exp((logit - highest) / temperature) of each candidate
};

}  // namespace hone
