// Models whose matrices several ranks divide among them (tensor parallelism, nn/linear.h), or whose experts (expert
// parallelism, nn/mixture.h).
#pragma once

#include "model/config.h"

namespace hone {

// Throws Error(usage) naming both where so many ranks do not divide heads, key/value heads, widths or the vocabulary,
// and for a model with what ranks do not divide (experts, encoders).
void check_parts(const Config& config, int64_t ranks);

// Throws Error(usage) naming both where so many ranks do not divide the experts of each mixture, and for a model with
// routers of depth. A dense model has nothing to divide.
void check_expert_parts(const Config& config, int64_t ranks);

// Of check_parts(): the shape of what each of them computes: its part of the heads, of the feed-forwards and of the
// vocabulary.
Config part_of(Config config, int64_t ranks);

}  // namespace hone
