// Layers and halves of layers of the model as a whole: one after the other, each the one without which the model's
// predictions on the text diverge least.
#include <algorithm>

#include "base/error.h"
#include "compress/structure.h"
#include "compress/structured.h"

namespace hone {
namespace {

// Whole layers and halves by divergence: takes them out of the model for a while.
class Thinner {
 public:
  explicit Thinner(Thinning& thinning)
      : thinning_(thinning), model_(*thinning.model), kept_(whole_layers(model_.config())) {
    if (!thinning.reference)
      thinning.reference = std::make_unique<Reference>(model_, thinning.text, thinning.type, divergence_windows);
  }

  void take(int64_t count, const std::string& what, bool attention, bool feed_forward) {
    for (int64_t n = 0; n < count; ++n) {
      double least = 0;
      size_t best = kept_.size();
      for (size_t i = 0; i < kept_.size(); ++i) {
        if (!there(i, attention, feed_forward)) continue;
        const double kl = without(i, attention, feed_forward);
        if (best < kept_.size() && !(kl < least)) continue;
        least = kl;
        best = i;
      }
      if (best == kept_.size()) throw internal_error("no {} is left to be removed", what);
      if (attention) {
        model_.blocks()[best].mixer = nullptr;
        kept_[best].heads.clear();
        kept_[best].kv_heads.clear();
      }
      if (feed_forward) {
        model_.blocks()[best].feed_forward = nullptr;
        kept_[best].units.clear();
        kept_[best].experts.clear();
      }
      thinning_.layers[static_cast<size_t>(thinning_.from[best])].kl = least;
      if (thinning_.progress) thinning_.progress(what, n + 1, count);
    }
  }

  // Of what stays.
  std::vector<KeptLayer> kept() const {
    std::vector<KeptLayer> layers;
    for (const KeptLayer& layer : kept_)
      if (!layer.heads.empty() || !layer.units.empty()) layers.push_back(layer);
    return layers;
  }

 private:
  bool there(size_t i, bool attention, bool feed_forward) const {
    const bool mixes = !kept_[i].heads.empty(), feeds = !kept_[i].units.empty();
    return attention && feed_forward ? mixes || feeds : attention ? mixes : feeds;
  }

  double without(size_t i, bool attention, bool feed_forward) {
    Block& block = model_.blocks()[i];
    std::unique_ptr<Mixer> mixer;
    std::unique_ptr<FeedForward> feed;
    if (attention) mixer = std::move(block.mixer);
    if (feed_forward) feed = std::move(block.feed_forward);
    const auto put_back = [&] {
      if (attention) block.mixer = std::move(mixer);
      if (feed_forward) block.feed_forward = std::move(feed);
    };
    try {
      const double kl = thinning_.reference->distance(model_).kl;
      put_back();
      return kl;
    } catch (...) {
      put_back();
      throw;
    }
  }

  Thinning& thinning_;
  Transformer& model_;
  std::vector<KeptLayer> kept_;
};

constexpr int mixer_half = 1, feed_forward_half = 2;

struct Half {
  const char* name;
  const char* what;
  const char* all;  // for messages
  const char* one;  // for progress
};
constexpr Half halves[] = {{},
                           {"attentions", "attention halves of layers", "the attention halves", "attention half"},
                           {"feed-forwards", "feed-forward halves", "the feed-forward halves", "feed-forward half"},
                           {"layers", "layers", "the model's layers", "layer"}};

template <int which>
std::vector<int64_t> count_halves(const Amount& amount, const Config& config, int64_t) {
  const auto there = [](const LayerBlueprint& l) {
    return which == mixer_half ? l.mixes() : which == feed_forward_half ? l.feeds() : true;
  };
  const int64_t all = std::ranges::count_if(config.layers, there), wanted = whole(amount, all);
  require_within(amount, wanted, 1, all - 1, all, halves[which].all);
  return {wanted};
}

template <int which>
void take_halves(Thinning& thinning, const std::vector<int64_t>& count) {
  Thinner thinner(thinning);
  thinner.take(count.front(), halves[which].one, (which & mixer_half) != 0, (which & feed_forward_half) != 0);
  thinning.keep(thinner.kept());
}

template <int which>
StructureKind structure_of_halves() {
  return {halves[which].name, halves[which].what, count_halves<which>, nullptr, take_halves<which>, nullptr, "", which};
}

}  // namespace

StructureKind layers_structure() {
  return structure_of_halves<mixer_half | feed_forward_half>();
}
StructureKind attentions_structure() {
  return structure_of_halves<mixer_half>();
}
StructureKind feed_forwards_structure() {
  return structure_of_halves<feed_forward_half>();
}

}  // namespace hone
