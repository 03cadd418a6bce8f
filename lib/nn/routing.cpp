#include "nn/routing.h"

namespace hone {

void add(ModelRouting& to, const ModelRouting& more) {
  to.resize(std::max(to.size(), more.size()));
  for (size_t i = 0; i < more.size(); ++i) {
    LayerRouting& layer = to[i];
    layer.load.resize(std::max(layer.load.size(), more[i].load.size()));
    for (size_t e = 0; e < more[i].load.size(); ++e) layer.load[e] += more[i].load[e];
    layer.tokens += more[i].tokens;
    layer.dropped += more[i].dropped;
    layer.entropy += more[i].entropy;
    layer.balance_loss += more[i].balance_loss;
    layer.z_loss += more[i].z_loss;
    layer.calls += more[i].calls;
  }
}

void add(ModelDepth& to, const ModelDepth& more) {
  to.resize(std::max(to.size(), more.size()));
  for (size_t i = 0; i < more.size(); ++i) {
    to[i].tokens += more[i].tokens;
    to[i].passed += more[i].passed;
    to[i].compared += more[i].compared;
    to[i].agreed += more[i].agreed;
  }
}

LayerDepth sum(const ModelDepth& layers) {
  LayerDepth all;
  for (const LayerDepth& layer : layers) {
    all.tokens += layer.tokens;
    all.passed += layer.passed;
    all.compared += layer.compared;
    all.agreed += layer.agreed;
  }
  return all;
}

}  // namespace hone
