// Attention written out plainly with a queries x keys matrix in double precision: what the tests compare the kernels
// with.
#pragma once

#include <vector>

#include "kernels/attention/types.h"

namespace hone::kernels {

// Each kind of the table, with several numbers, and heads where it tells apart those of a call, which has four.
std::vector<ScoreRule> score_rules();
// Of a call with all heads of a layer.
inline ScoreRule alibi(int64_t heads) {
  return {score_named("alibi"), 0, 0, heads};
}

// visible[q * keys + k] of one (sequence, head), or of all when there is one list.
struct ReferenceMask {
  std::vector<uint8_t> visible;
  int64_t lists = 1;
  std::vector<int32_t> key_positions = {};  // none: in order
};

// The mask of a rule: keys at key_positions, or in order when it is empty.
ReferenceMask reference_mask(const AttentionDims& dims, const MaskRule& rule,
                             const std::vector<int32_t>& key_positions = {});

// As attention_forward. log_sum_exp may be null.
void attention_forward_reference(const AttentionDims& dims, ConstHeadRows q, ConstHeadRows k, ConstHeadRows v,
                                 HeadRows out, float* log_sum_exp, const ReferenceMask& mask);

// As attention_backward, but P comes from q and k and out is computed again.
void attention_backward_reference(const AttentionDims& dims, ConstHeadRows q, ConstHeadRows k, ConstHeadRows v,
                                  ConstHeadRows d_out, HeadRows dq, HeadRows dk, HeadRows dv,
                                  const ReferenceMask& mask);

}  // namespace hone::kernels
