// Which experts of a mixture can best be done without.
#pragma once

#include <span>
#include <vector>

#include "compress/calibration.h"
#include "model/rebuild.h"

namespace hone {

// `count` of each layer's experts (0: none) go, one after the other, each the one without which the output of the
// mixture changes least in the squared mean, with the tokens that it had going to the others. Layers are measured
// behind what has become of those before them. More experts than top_k stay, or as many.
std::vector<KeptLayer> choose_experts(Transformer& model, std::span<const int64_t> count, const CalibrationText& text,
                                      DType type);

}  // namespace hone
