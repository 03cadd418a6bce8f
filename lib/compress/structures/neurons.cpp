// Hidden units of each feed-forward, of each expert.
#include <algorithm>

#include "base/error.h"
#include "compress/structure.h"

namespace hone {
namespace {

std::vector<int64_t> count_neurons(const Amount& amount, const Config& config, int64_t multiple) {
  require_some(amount, std::ranges::count_if(config.layers, [](const auto& l) { return l.feeds(); }), "feed-forward");
  std::vector<int64_t> counts(config.layers.size(), 0);
  for (size_t i = 0; i < counts.size(); ++i)
    if (config.layers[i].feeds())
      counts[i] = width_to_remove(amount, config.layers[i].ffn, multiple, fmt::format("layer {}'s hidden units", i),
                                  "; feed-forwards:N removes whole halves");
  return counts;
}

constexpr ColumnStructure neuron_columns = {
    [](Role role) { return role == Role::down; },
    [](const Projection& p, const LayerBlueprint& layer, int64_t count) {
      return count * (p.shared ? layer.shared_experts : 1);
    },
    [](const BlockBlueprint&) { return int64_t{1}; },
    [](const Tensor& weight, const InputMoments& moments, const LayerBlueprint&, int64_t count) {
      return choose_units(weight, moments, 1, count);
    },
    [](KeptLayer& kept, const Projection& p, const LayerBlueprint&, const UnitChoice& choice) {
      (p.shared ? kept.units.back() : kept.units[static_cast<size_t>(std::max<int64_t>(p.expert, 0))]) = choice.kept;
    }};

constexpr LayerSize neuron_sizes[] = {{"ffn", "neurons", &LayerBlueprint::ffn}};

}  // namespace

StructureKind neurons_structure() {
  return {.name = "neurons",
          .what = "hidden units of each feed-forward",
          .count = count_neurons,
          .narrow = [](LayerBlueprint& layer, int64_t count) { layer.ffn -= count; },
          .take = nullptr,
          .columns = &neuron_columns,
          .error = "neuron_error",
          .sizes = neuron_sizes,
          .rounds = true,
          .speedup = {.behind = 0, .percent = 2.5}};
}

}  // namespace hone
