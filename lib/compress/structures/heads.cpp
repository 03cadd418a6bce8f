// Heads of each layer: query heads with the key/value heads that only they use, and channels of other mixers.
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "compress/structure.h"
#include "nn/attention/score.h"

namespace hone {

std::vector<int64_t> removable_heads(const LayerBlueprint& layer) {
  std::set<int64_t> counts;
  if (!layer.mixes() || layer.qk_norm_whole || score_by_head(layer.score)) return {};
  const int64_t in_group = layer.heads / layer.kv_heads;
  for (int64_t groups = 1; groups < layer.kv_heads; ++groups) counts.insert(groups * in_group);
  for (int64_t of_each = 1; of_each < in_group; ++of_each) counts.insert(of_each * layer.kv_heads);
  return {counts.begin(), counts.end()};
}

namespace {

int64_t heads_to_remove(const Amount& amount, const LayerBlueprint& layer, size_t i) {
  if (layer.qk_norm_whole)  // without some the others would be divided by another size
    throw usage_error(
        "structure '{}': layer {}'s norm of queries and keys is over all heads, which stay together; "
        "attentions:N removes whole attention halves",
        amount.text, i);
  if (score_by_head(layer.score))
    throw usage_error(
        "structure '{}': '{}' gives each of layer {}'s heads a score of its own, so that none can go alone; "
        "attentions:N removes whole attention halves",
        amount.text, layer.score, i);
  const std::vector<int64_t> possible = removable_heads(layer);
  const std::string of = fmt::format("layer {}'s heads", i);
  const int64_t wanted = whole(amount, layer.heads);
  require_within(amount, wanted, amount.is_fraction && !possible.empty() ? possible.front() : 1,
                 possible.empty() ? 0 : layer.heads - 1, layer.heads, of,
                 "; attentions:N removes whole attention halves");
  if (std::find(possible.begin(), possible.end(), wanted) != possible.end()) return wanted;
  if (!amount.is_fraction)
    throw usage_error(
        "structure '{}': {} are {} groups of {}; whole groups or equally many of each group can go: {} heads",
        amount.text, of, layer.kv_heads, layer.heads / layer.kv_heads, fmt::join(possible, ", "));
  return *std::prev(std::upper_bound(possible.begin(), possible.end(), wanted));
}

std::vector<int64_t> count_heads(const Amount& amount, const Config& config, int64_t) {
  require_some(amount, std::ranges::count_if(config.layers, [](const auto& l) { return l.mixes(); }), "attention");
  std::vector<int64_t> counts(config.layers.size(), 0);
  for (size_t i = 0; i < counts.size(); ++i) {
    const LayerBlueprint& layer = config.layers[i];
    if (!layer.mixes()) continue;
    counts[i] = heads_to_remove(amount, layer, i);
  }
  return counts;
}

// As whole groups where that is possible: what pruning may choose otherwise is no faster.
void narrow_heads(LayerBlueprint& layer, int64_t count) {
  if (count == 0) return;
  const int64_t in_group = layer.heads / layer.kv_heads;
  if (count % in_group == 0) layer.kv_heads -= count / in_group;
  layer.heads -= count;
}

// Whole groups, or equally many of each: whichever costs less, where both can be.
UnitChoice choose_heads(const Tensor& weight, const InputMoments& moments, const LayerBlueprint& layer, int64_t count) {
  const int64_t in_group = layer.heads / layer.kv_heads, width = weight.dim(1) / layer.heads;
  std::optional<UnitChoice> best;
  if (count % in_group == 0 && count / in_group < layer.kv_heads) {
    UnitChoice groups = choose_units(weight, moments, width * in_group, count / in_group);
    std::vector<int64_t> kept;
    for (const int64_t g : groups.kept)
      for (int64_t h = 0; h < in_group; ++h) kept.push_back(g * in_group + h);
    best = {kept, groups.error};
  }
  if (in_group > 1 && count % layer.kv_heads == 0 && count / layer.kv_heads < in_group) {
    std::vector<int64_t> group;
    for (int64_t h = 0; h < layer.heads; ++h) group.push_back(h / in_group);
    UnitChoice each = choose_units(weight, moments, width, count, group, count / layer.kv_heads);
    if (!best || each.error < best->error) best = each;
  }
  if (!best) throw internal_error("{} of {} heads cannot go", count, layer.heads);
  return *best;
}

void keep_heads(KeptLayer& kept, const Projection&, const LayerBlueprint& layer, const UnitChoice& choice) {
  const int64_t in_group = layer.heads / layer.kv_heads;
  kept.heads = choice.kept;
  kept.kv_heads.clear();
  for (const int64_t h : choice.kept)
    if (kept.kv_heads.empty() || kept.kv_heads.back() != h / in_group) kept.kv_heads.push_back(h / in_group);
}

constexpr ColumnStructure head_columns = {
    [](Role role) { return role == Role::attention_output || role == Role::mixer_output; },
    [](const Projection&, const LayerBlueprint&, int64_t count) { return count; },
    [](const BlockBlueprint& block) { return block.head_dim; }, choose_heads, keep_heads};

constexpr LayerSize head_sizes[] = {{"heads", "heads", &LayerBlueprint::heads},
                                    {"kv_heads", "key/value heads", &LayerBlueprint::kv_heads}};

}  // namespace

StructureKind heads_structure() {
  // Last in a search: of what a layer gives, a model of 4 heads of 64 loses a hundred times as much with a quarter of
  // its heads as with a third of its neurons (docs/results/structured.md).
  return {.name = "heads",
          .what = "heads of each layer",
          .count = count_heads,
          .narrow = narrow_heads,
          .take = nullptr,
          .columns = &head_columns,
          .error = "head_error",
          .sizes = head_sizes,
          .speedup = {.behind = 30, .percent = 12.5}};
}

}  // namespace hone
