// Hidden units of each feed-forward, of each expert.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "compress/structure.h"

namespace hone {
namespace {

// A count is taken as it is; a part is rounded to a width that is a multiple.
int64_t units_to_remove(const Amount& amount, const LayerBlueprint& layer, int64_t multiple, size_t i) {
  const std::string of = fmt::format("layer {}'s hidden units", i);
  if (!amount.is_fraction) {
    require_within(amount, amount.count, 1, layer.ffn - 1, layer.ffn, of, "; feed-forwards:N removes whole halves");
    return amount.count;
  }
  if (amount.fraction >= 1)
    require_within(amount, layer.ffn, 1, layer.ffn - 1, layer.ffn, of, "; feed-forwards:N removes whole halves");
  const double stays = (1 - amount.fraction) * static_cast<double>(layer.ffn);
  const int64_t steps = std::llround(stays / static_cast<double>(multiple));
  const int64_t width = std::max<int64_t>(steps, 1) * multiple;
  const int64_t widest = (layer.ffn - 1) / multiple * multiple;  // the widest that is smaller
  if (widest < multiple)
    throw usage_error("structure '{}': {} are {}, no more than one multiple of {}; a smaller multiple of widths helps",
                      amount.text, of, layer.ffn, multiple);
  if (width >= layer.ffn)
    throw usage_error("structure '{}' removes none of the {} of {} where widths are multiples of {}; the least is {}",
                      amount.text, layer.ffn, of, multiple, percent(layer.ffn - widest, layer.ffn));
  return layer.ffn - width;
}

std::vector<int64_t> count_neurons(const Amount& amount, const Config& config, int64_t multiple) {
  require_some(amount, std::ranges::count_if(config.layers, [](const auto& l) { return l.feeds(); }), "feed-forward");
  std::vector<int64_t> counts(config.layers.size(), 0);
  for (size_t i = 0; i < counts.size(); ++i)
    if (config.layers[i].feeds()) counts[i] = units_to_remove(amount, config.layers[i], multiple, i);
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
