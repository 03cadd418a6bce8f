#include "nn/mixer.h"

#include "nn/attention/attention.h"

namespace hone {

std::unique_ptr<Mixer> Mixer::make(const BlockBlueprint& blueprint, const LayerBlueprint& layer) {
  return std::make_unique<Attention>(blueprint, layer);
}

}  // namespace hone
