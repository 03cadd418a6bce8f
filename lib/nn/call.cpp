#include "nn/call.h"

#include "base/random.h"

namespace hone {
namespace {

// The golden ratio's: multiples of it differ in all bits (Steele et al. 2014, SplitMix).
constexpr uint64_t step = 0x9e3779b97f4a7c15u;

}  // namespace

uint64_t Noise::at_embedding() const {
  return seed + step;
}

uint64_t Noise::at(int64_t layer, Site site) const {
  const auto l = static_cast<uint64_t>(layer);
  switch (site) {
    case Site::mixer:
      return seed + step * (2 + 2 * l);
    case Site::feed_forward:
      return seed + step * (3 + 2 * l);
    case Site::router:  // streams beside dropout's
      return mix64(seed ^ 0x726f75746572u) + step * (1 + l);
    case Site::skip:
      return mix64(seed ^ 0x736b6970u) + step * (1 + l);
    case Site::mixer_input:
    case Site::mixer_output:
    case Site::up:
    case Site::down:
      break;
  }
  return mix64(seed ^ mix64(0x726f756e64u + static_cast<uint64_t>(site))) + step * (1 + l);
}

}  // namespace hone
