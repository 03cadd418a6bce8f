// Exits: places between layers where the head may be read (docs/depth.md). An exit is named by its depth, the number of
// layers before it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/config.h"

namespace hone {

// Depths of the exits that there are, ascending.
std::vector<int64_t> exits_of(const Config& config);

// "every:K" (behind K layers, 2 K, …) or "2,4,6", for a model of so many layers; none stands behind the last. Throws
// Error(usage) for another text, for layers that do not exist, and where that leaves no exit.
std::vector<int64_t> parse_exits(const std::string& text, int64_t layers);

// These and no others. Throws Error(usage) for a depth without a layer.
void set_exits(Config& config, std::span<const int64_t> depths);

// Throws Error(usage), saying `what` needs one, where there is none.
void require_exits(const Config& config, const std::string& what);

}  // namespace hone
