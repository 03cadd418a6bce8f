// How fast the pairs of a head turn with the position (Su et al., arXiv 2104.09864).
#pragma once

#include <vector>

#include "nn/blueprint.h"

namespace hone {

// Radians a token, of the pairs (c, c + head_dim / 2): theta^(-2c / rotary_dim), scaled; 0 for pairs that do not turn.
std::vector<double> rope_frequencies(const BlockBlueprint& blueprint);

}  // namespace hone
