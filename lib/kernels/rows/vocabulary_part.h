// Cross-entropy of a vocabulary that several ranks divide: each has the logits of some tokens.
//
// A rank sums up each row of its logits. From the sums of all follow the losses, and what the gradient of a rank's own
// logits needs of the others (the scheme of Megatron-LM, Shoeybi et al., arXiv 1909.08053, section 3).
#pragma once

#include <cstdint>

#include "kernels/view.h"

namespace hone::kernels {

// Of a row's logits of some tokens.
struct LogitSum {
  float largest;       // -infinity: of no token
  float sum;           // of exp(logit - largest)
  float target;        // the target's logit; 0 where it is not one of these tokens
  int32_t largest_at;  // the first token, of these, that has the largest
};

// logits [rows, cols] T, of which the first `tokens` columns are tokens. targets[r]: a column, or -1.
void sum_logits(ConstView logits, int64_t tokens, const int32_t* targets, LogitSum* sums);

// Replaces logits by exp(logit - log_sums[r]) * factors[r], less at_targets[r] at the row's target; columns that are no
// tokens become 0.
struct LogitGradient {
  View logits;  // [rows, cols] T
  int64_t tokens = 0;
  const int32_t* targets = nullptr;  // as above
  const float* log_sums = nullptr;   // [rows]: log of the sum of all ranks' exponentials
  const float* factors = nullptr;    // [rows]; 0: the row's gradient is 0
  float at_target = 0;
};
void logit_gradient(const LogitGradient& a);

}  // namespace hone::kernels
