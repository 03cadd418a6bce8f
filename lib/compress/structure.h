// Which structures of a model are asked to go: "neurons:40%,heads:25%,layers:2,experts:4", and what that is in numbers
// of a model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/config.h"

namespace hone {

// So many of them, or so large a part.
struct Amount {
  int64_t count = 0;
  double fraction = 0;
  bool is_fraction = false;
  std::string text;  // as it was typed, with its kind: "heads:25%"
};

struct Structure {
  std::optional<Amount> neurons;        // hidden units of each feed-forward, of each expert
  std::optional<Amount> heads;          // query heads of each layer, with the key/value heads that only they use
  std::optional<Amount> experts;        // of each mixture
  std::optional<Amount> layers;         // of the model, whole
  std::optional<Amount> attentions;     // of the model: layers that lose their attention half
  std::optional<Amount> feed_forwards;  // and those that lose the other
  int64_t multiple = 32;                // widths of feed-forwards are rounded to multiples of this, for the kernels

  bool removes_halves() const { return layers || attentions || feed_forwards; }
};

std::string structure_syntax();  // for help texts
// Throws Error(usage) for what it cannot read.
Structure parse_structure(const std::string& text);

// How many go, of each layer of a model; 0 where a layer has none.
struct StructureCounts {
  int64_t layers = 0, attentions = 0, feed_forwards = 0;  // of the model
  std::vector<int64_t> experts, heads, units;             // by layer; units of each expert
};
// Throws Error(usage), naming the most or the least that can go, where nothing would be left, nothing would go, or
// heads would not come out as whole groups or equally many of each group.
StructureCounts structure_counts(const Structure& structure, const Config& config);

// How many heads of a layer can go: those of whole groups, or equally many of each group; ascending, at least one
// stays.
std::vector<int64_t> removable_heads(const LayerBlueprint& layer);

}  // namespace hone
