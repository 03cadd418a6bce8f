#include "compress/structure.h"

#include <algorithm>

#include "base/error.h"
#include "base/spelling.h"
#include "media/medium.h"

namespace hone {

// Each in a file of its own, but for those of the model as a whole.
StructureKind neurons_structure();
StructureKind heads_structure();
StructureKind experts_structure();
StructureKind layers_structure();
StructureKind attentions_structure();
StructureKind feed_forwards_structure();
StructureKind dim_structure();

std::span<const StructureKind> structure_kinds() {
  static const StructureKind rows[] = {heads_structure(),      neurons_structure(),       layers_structure(),
                                       attentions_structure(), feed_forwards_structure(), experts_structure(),
                                       dim_structure()};
  return rows;
}

namespace {

std::string names() {
  std::string text;
  for (const StructureKind& kind : structure_kinds()) text += fmt::format("{}{}", text.empty() ? "" : ", ", kind.name);
  return text;
}

const StructureKind* find(std::string_view name) {
  const auto found = std::ranges::find(structure_kinds(), name, &StructureKind::name);
  return found == structure_kinds().end() ? nullptr : &*found;
}

// What goes as a whole must leave something of the mixers, of the feed-forwards, and of both.
void require_rest(const StructureCounts& counts, const Config& config) {
  int64_t there[] = {std::ranges::count_if(config.layers, [](const auto& l) { return l.mixes(); }),
                     std::ranges::count_if(config.layers, [](const auto& l) { return l.feeds(); })};
  int64_t go[] = {0, 0};
  for (const auto& [kind, count] : counts)
    for (const int half : {0, 1})
      if (kind->halves >> half & 1) go[half] += count.front();
  if (go[0] + go[1] == 0) return;
  if (go[0] > there[0] || go[1] > there[1] || go[0] + go[1] >= there[0] + there[1])
    throw usage_error(
        "structures of layers that go together would leave nothing: the model has {} attention and {} "
        "feed-forward halves in {}",
        there[0], there[1], counted(config.layers.size(), "layer"));
}

}  // namespace

bool Structure::asks(std::string_view name) const {
  return std::ranges::any_of(asked, [&](const AskedStructure& one) { return one.kind->name == name; });
}

std::string structure_syntax() {
  std::string text;
  for (const StructureKind& kind : structure_kinds())
    text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", kind.name, kind.what);
  return "KIND:AMOUNT, several with commas between; an amount is a count or a part (40%); kinds: " + text;
}

Structure parse_structure(const std::string& text) {
  Structure structure;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string entry = text.substr(begin, end - begin);
    const size_t colon = entry.find(':');
    const StructureKind* kind = find(entry.substr(0, colon));
    if (colon == std::string::npos || !kind)
      throw usage_error("structure '{}' is not known; give KIND:AMOUNT, of {}", entry, names());
    if (structure.asks(kind->name)) throw usage_error("structure '{}' is named twice", kind->name);
    structure.asked.push_back({kind, parse_amount(entry.substr(colon + 1), entry)});
    begin = end + 1;
  }
  return structure;
}

StructureCounts structure_counts(const Structure& structure, const Config& config) {
  if (std::ranges::any_of(config.layers, [](const LayerBlueprint& l) { return !l.modalities.empty(); }))
    throw usage_error("structures are not removed from layers with weights of their own for {}: prune single weights",
                      each_of(media_words(&Medium::plural)));
  StructureCounts counts;
  for (const bool whole : {true, false}) {  // what goes as a whole before what is left of layers
    for (const AskedStructure& one : structure.asked)
      if ((one.kind->halves != 0) == whole) counts[one.kind] = one.kind->count(one.amount, config, structure.multiple);
    if (whole) require_rest(counts, config);
  }
  return counts;
}

const std::vector<int64_t>& counts_of(const StructureCounts& counts, std::string_view name) {
  for (const auto& [kind, count] : counts)
    if (kind->name == name) return count;
  throw internal_error("no counts of '{}'", name);
}

Config narrowed(Config config, const StructureCounts& counts) {
  for (const auto& [kind, count] : counts)
    for (size_t i = 0; kind->narrow && i < config.layers.size(); ++i) kind->narrow(config.layers[i], count[i]);
  return config;
}

}  // namespace hone
