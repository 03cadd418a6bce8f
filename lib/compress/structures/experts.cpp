// Experts of each mixture. They go one after the other, each the one without which the output of the mixture changes
// least in the squared mean, with the tokens that it had going to the others. Layers are measured behind what has
// become of those before them. More experts than top_k stay, or as many.
#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/stop.h"
#include "compress/structure.h"

namespace hone {
namespace {

constexpr int64_t windows_at_most = 32;
constexpr float never = -1e30f;  // as a bias of the choice

Parameter& selection_bias(Block& block, int64_t layer) {
  struct Finder : Visitor {
    Parameter* found = nullptr;
    void weight(const ParameterInfo&, std::shared_ptr<Weight>&) override {}
    void parameter(const ParameterInfo& info, Parameter& parameter) override {
      if (info.role == Role::router_bias) found = &parameter;
    }
  } finder;
  block.feed_forward->visit(Transformer::place_of_block(layer).in("feed_forward"), finder);
  return *finder.found;
}

double squared_difference(const Tensor& a, const Tensor& b) {
  const Tensor x = a.to(DType::f32), y = b.to(DType::f32);
  double sum = 0;
  for (int64_t i = 0; i < x.size(); ++i) {
    const double d = static_cast<double>(x.data<float>()[i]) - static_cast<double>(y.data<float>()[i]);
    sum += d * d;
  }
  return sum;
}

class ExpertChooser {
 public:
  ExpertChooser(Transformer& model, const CalibrationText& text, DType type) : model_(model) {
    text.require_text("the choice of experts");
    const int64_t windows = std::min(text.windows, windows_at_most);
    for (int64_t w = 0; w < windows; ++w) {
      const auto first = static_cast<size_t>(w * text.windows / windows * text.length);
      parts_.push_back({model.call(Batch::whole(1, text.length), type), {}});
      parts_.back().stream =
          model.embed(std::span(text.ids).subspan(first, static_cast<size_t>(text.length)), parts_.back().call);
    }
  }

  // Experts of the layer that stay.
  std::vector<int64_t> layer(int64_t i, int64_t count) {
    const Block& block = model_.blocks()[static_cast<size_t>(i)];
    if (!block.router)
      for (Part& part : parts_) part.stream = block.mix(part.stream, part.call, i, nullptr);
    std::vector<int64_t> kept;
    if (count > 0) kept = choose(i, count);
    for (Part& part : parts_) part.stream = rest(block, part, i);
    return kept;
  }

 private:
  struct Part {
    Call call;
    Stream stream;
  };

  // The block from its experts on; one with a router of depth runs as a whole.
  static Stream rest(const Block& block, const Part& part, int64_t i) {
    return block.router ? block.forward(part.stream, part.call, i, nullptr) : block.feed(part.stream, part.call, i);
  }

  // Leaves those that go out of the choice.
  std::vector<int64_t> choose(int64_t i, int64_t count) {
    Block& block = model_.blocks()[static_cast<size_t>(i)];
    Parameter& bias = selection_bias(block, i);
    bias.value = bias.value.clone();
    const auto outputs = [&] {
      check_stop();
      std::vector<Tensor> y;
      for (const Part& part : parts_) y.push_back(rest(block, part, i).branch.value());
      return y;
    };
    const std::vector<Tensor> whole = outputs();
    std::vector<int64_t> kept;
    for (int64_t e = 0; e < bias.value.size(); ++e) kept.push_back(e);
    for (int64_t n = 0; n < count; ++n) {
      size_t best = 0;
      double least = 0;
      for (size_t k = 0; k < kept.size(); ++k) {
        float& mine = bias.value.data<float>()[kept[k]];
        const float before = std::exchange(mine, never);
        ++bias.version;
        const std::vector<Tensor> without = outputs();
        mine = before;
        double error = 0;
        for (size_t p = 0; p < whole.size(); ++p) error += squared_difference(whole[p], without[p]);
        if (k > 0 && !(error < least)) continue;
        least = error;
        best = k;
      }
      bias.value.data<float>()[kept[best]] = never;
      ++bias.version;
      kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(best));
    }
    return kept;
  }

  Transformer& model_;
  std::vector<Part> parts_;
};

// `count`: of each layer of the model as it is.
std::vector<KeptLayer> choose_experts(Transformer& model, std::span<const int64_t> count, const CalibrationText& text,
                                      DType type) {
  const NoTape pause;
  std::vector<KeptLayer> layers = whole_layers(model.config());
  ExpertChooser chooser(model, text, type);
  for (size_t i = 0; i < layers.size(); ++i) {
    const std::vector<int64_t> kept = chooser.layer(static_cast<int64_t>(i), count[i]);
    if (count[i] == 0) continue;
    std::vector<KeptUnits> units;
    for (const int64_t e : kept) units.push_back(layers[i].units[static_cast<size_t>(e)]);
    if (model.config().layers[i].shared_experts > 0) units.push_back(layers[i].units.back());
    layers[i].experts = kept;
    layers[i].units = units;
  }
  return layers;
}

std::vector<int64_t> count_experts(const Amount& amount, const Config& config, int64_t) {
  require_some(amount, std::ranges::count_if(config.layers, [](const auto& l) { return l.experts > 0; }),
               "mixture of experts");
  std::vector<int64_t> counts(config.layers.size(), 0);
  for (size_t i = 0; i < counts.size(); ++i) {
    const LayerBlueprint& l = config.layers[i];
    if (l.experts == 0) continue;
    counts[i] = whole(amount, l.experts);
    require_within(amount, counts[i], 1, l.experts - l.top_k, l.experts, fmt::format("layer {}'s experts", i),
                   fmt::format(", since a token takes {}", l.top_k));
  }
  return counts;
}

void take_experts(Thinning& thinning, const std::vector<int64_t>& count) {
  std::vector<int64_t> here;
  for (const int64_t layer : thinning.from) here.push_back(count[static_cast<size_t>(layer)]);
  if (std::ranges::all_of(here, [](int64_t n) { return n == 0; })) return;
  thinning.keep(choose_experts(*thinning.model, here, thinning.text, thinning.type));
}

constexpr LayerSize expert_sizes[] = {{"experts", "experts", &LayerBlueprint::experts}};

}  // namespace

StructureKind experts_structure() {
  return {.name = "experts",
          .what = "experts of each mixture",
          .count = count_experts,
          .narrow = [](LayerBlueprint& layer, int64_t count) { layer.experts -= count; },
          .take = take_experts,
          .columns = nullptr,
          .error = "",
          .sizes = expert_sizes};
}

}  // namespace hone
