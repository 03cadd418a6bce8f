#include "compress/structure.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "base/units.h"

namespace hone {
namespace {

struct Kind {
  const char* name;
  const char* what;
  std::optional<Amount> Structure::*amount;
};

constexpr Kind kinds[] = {
    {"neurons", "hidden units of each feed-forward", &Structure::neurons},
    {"heads", "heads of each layer", &Structure::heads},
    {"experts", "experts of each mixture", &Structure::experts},
    {"layers", "layers", &Structure::layers},
    {"attentions", "attention halves of layers", &Structure::attentions},
    {"feed-forwards", "feed-forward halves", &Structure::feed_forwards},
};

std::string names() {
  std::string text;
  for (const Kind& kind : kinds) text += fmt::format("{}{}", text.empty() ? "" : ", ", kind.name);
  return text;
}

Amount parse_amount(const std::string& text, const std::string& entry) {
  Amount amount;
  amount.text = entry;
  amount.is_fraction = text.find_first_of("%.") != std::string::npos;
  try {
    if (amount.is_fraction)
      amount.fraction = parse_fraction(text);
    else
      amount.count = parse_count(text);
  } catch (const Error& error) {
    throw usage_error("structure '{}': {}", entry, error.what());
  }
  if (amount.is_fraction ? amount.fraction <= 0 : amount.count < 1)
    throw usage_error("structure '{}' removes nothing; leave it out or give more", entry);
  return amount;
}

// Of `all`, as many whole ones as are not more than was asked for.
int64_t whole(const Amount& amount, int64_t all) {
  if (!amount.is_fraction) return amount.count;
  return static_cast<int64_t>(std::floor(amount.fraction * static_cast<double>(all) + 1e-9));
}

std::string percent(int64_t part, int64_t all) {
  return fmt::format("{:.4g}%", 100 * static_cast<double>(part) / static_cast<double>(all));
}

// `least` and `most` that can go, of `all`.
void require_within(const Amount& amount, int64_t wanted, int64_t least, int64_t most, int64_t all,
                    const std::string& of, const std::string& hint = "") {
  if (most < least) throw usage_error("structure '{}': {} has {}, of which none can go", amount.text, of, all);
  if (wanted > most)
    throw usage_error("structure '{}' would leave nothing of the {} of {}; at most {} ({}) can go{}", amount.text, all,
                      of, most, percent(most, all), hint);
  if (wanted < least)
    throw usage_error("structure '{}' removes none of the {} of {}; the least that goes is {} ({})", amount.text, all,
                      of, least, percent(least, all));
}

int64_t heads_to_remove(const Amount& amount, const LayerBlueprint& layer, size_t i) {
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

int64_t count_layers(const Config& config, bool (*has)(const LayerBlueprint&)) {
  return std::count_if(config.layers.begin(), config.layers.end(), has);
}

void require_some(const Amount& amount, int64_t there, const char* what) {
  if (there == 0) throw usage_error("structure '{}': the model has no {}", amount.text, what);
}

}  // namespace

std::string structure_syntax() {
  std::string text;
  for (const Kind& kind : kinds) text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", kind.name, kind.what);
  return "KIND:AMOUNT, several with commas between; an amount is a count or a part (40%); kinds: " + text;
}

Structure parse_structure(const std::string& text) {
  Structure structure;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string entry = text.substr(begin, end - begin);
    const size_t colon = entry.find(':');
    const auto* kind = std::find_if(std::begin(kinds), std::end(kinds),
                                    [&](const Kind& k) { return entry.substr(0, colon) == k.name; });
    if (colon == std::string::npos || kind == std::end(kinds))
      throw usage_error("structure '{}' is not known; give KIND:AMOUNT, of {}", entry, names());
    if (structure.*kind->amount) throw usage_error("structure '{}' is named twice", kind->name);
    structure.*kind->amount = parse_amount(entry.substr(colon + 1), entry);
    begin = end + 1;
  }
  return structure;
}

std::vector<int64_t> removable_heads(const LayerBlueprint& layer) {
  std::set<int64_t> counts;
  if (!layer.mixes()) return {};
  const int64_t in_group = layer.heads / layer.kv_heads;
  for (int64_t groups = 1; groups < layer.kv_heads; ++groups) counts.insert(groups * in_group);
  for (int64_t of_each = 1; of_each < in_group; ++of_each) counts.insert(of_each * layer.kv_heads);
  return {counts.begin(), counts.end()};
}

StructureCounts structure_counts(const Structure& s, const Config& config) {
  const auto layers = static_cast<int64_t>(config.layers.size());
  if (std::ranges::any_of(config.layers, [](const LayerBlueprint& l) { return !l.modalities.empty(); }))
    throw usage_error(
        "structures are not removed from layers with weights of their own for images and sounds: prune single weights");
  StructureCounts counts;
  for (std::vector<int64_t>* list : {&counts.experts, &counts.heads, &counts.units})
    list->assign(config.layers.size(), 0);
  const int64_t mixing = count_layers(config, [](const LayerBlueprint& l) { return l.mixes(); });
  const int64_t feeding = count_layers(config, [](const LayerBlueprint& l) { return l.feeds(); });
  const auto of_model = [](const std::optional<Amount>& amount, int64_t all, const char* what) {
    if (!amount) return int64_t{0};
    const int64_t wanted = whole(*amount, all);
    require_within(*amount, wanted, 1, all - 1, all, what);
    return wanted;
  };
  counts.layers = of_model(s.layers, layers, "the model's layers");
  counts.attentions = of_model(s.attentions, mixing, "the attention halves");
  counts.feed_forwards = of_model(s.feed_forwards, feeding, "the feed-forward halves");
  if (counts.layers + counts.attentions > mixing || counts.layers + counts.feed_forwards > feeding ||
      2 * counts.layers + counts.attentions + counts.feed_forwards >= mixing + feeding)
    throw usage_error(
        "structures of layers that go together would leave nothing: the model has {} attention and {} "
        "feed-forward halves in {} layers",
        mixing, feeding, layers);
  if (s.neurons) require_some(*s.neurons, feeding, "feed-forward");
  if (s.heads) require_some(*s.heads, mixing, "attention");
  if (s.experts)
    require_some(*s.experts, count_layers(config, [](const LayerBlueprint& l) { return l.experts > 0; }),
                 "mixture of experts");
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const LayerBlueprint& l = config.layers[i];
    if (s.heads && l.mixes()) counts.heads[i] = heads_to_remove(*s.heads, l, i);
    if (s.neurons && l.feeds()) counts.units[i] = units_to_remove(*s.neurons, l, s.multiple, i);
    if (s.experts && l.experts > 0) {
      counts.experts[i] = whole(*s.experts, l.experts);
      require_within(*s.experts, counts.experts[i], 1, l.experts - l.top_k, l.experts,
                     fmt::format("layer {}'s experts", i), fmt::format(", since a token takes {}", l.top_k));
    }
  }
  return counts;
}

}  // namespace hone
