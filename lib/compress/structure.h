// Which structures of a model are asked to go: "neurons:40%,heads:25%,layers:2,experts:4", and what that is in numbers
// of a model.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "compress/structures/kind.h"

namespace hone {

std::span<const StructureKind> structure_kinds();

struct AskedStructure {
  const StructureKind* kind;
  Amount amount;
};

struct Structure {
  std::vector<AskedStructure> asked;  // no kind twice
  int64_t multiple = 32;              // widths of feed-forwards and dim are rounded to multiples of this, for kernels

  bool asks(std::string_view name) const;
};

std::string structure_syntax();  // for help texts
// Throws Error(usage) for what it cannot read.
Structure parse_structure(const std::string& text);

// How many go, by kind: what StructureKind::count() says.
using StructureCounts = std::map<const StructureKind*, std::vector<int64_t>>;
// Throws Error(usage), naming the most or the least that can go, where nothing would be left, nothing would go, or
// heads would not come out as whole groups or equally many of each group.
StructureCounts structure_counts(const Structure& structure, const Config& config);
const std::vector<int64_t>& counts_of(const StructureCounts& counts, std::string_view name);  // Error(internal): none

// The shape of a model without so many of each layer.
Config narrowed(Config config, const StructureCounts& counts);

// How many heads of a layer can go: those of whole groups, or equally many of each group; ascending, at least one
// stays. None where its score tells heads apart, or a norm is over all of them.
std::vector<int64_t> removable_heads(const LayerBlueprint& layer);

}  // namespace hone
