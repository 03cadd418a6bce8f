// Layers that only some tokens go through (nn/depth_router.h), in the configuration of a model.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/config.h"

namespace hone {

// The layers that have a router, ascending, from 0.
std::vector<int64_t> depth_routers_of(const Config& config);

// "0.5 of the tokens through layers 1, 3"; "" where none has one.
std::string describe_depth_routers(const Config& config);

// These and no others, each for the same fraction of the tokens. Throws Error(usage) for a layer that does not exist,
// and for a fraction that is not above 0 and below 1.
void set_depth_routers(Config& config, std::span<const int64_t> layers, double fraction);

}  // namespace hone
