#include "nn/forward.h"

namespace hone {

int64_t Cache::bytes() const {
  int64_t total = 0;
  for (const LayerCache& layer : layers) total += layer.bytes();
  return total;
}

}  // namespace hone
