// How a model tells where a token stands, beside what scores of attention see of it.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/rows.h"

namespace hone {

// A new kind is a row, and what it does where nobody did that before: Transformer asks what a row says.
struct PositionInfo {
  std::string_view name;  // in configurations and options
  std::string_view what;  // for people
  bool turns;             // queries and keys turn with their positions (ops::rope)
  bool learned;           // a row is added for each position of the context, so that there is none beyond
};
inline constexpr PositionInfo position_kinds[] = {
    {"rotary", "rotary positions", true, false},
    {"learned", "learned positions", false, true},
    {"none", "layers without positions", false, false},
};

// A place in the table; the first is the default.
enum class PositionKind : uint8_t {};

constexpr const PositionInfo& info_of(PositionKind kind) {
  return position_kinds[static_cast<size_t>(kind)];
}
consteval PositionKind positions_named(std::string_view name) {
  return row_named<PositionKind>(position_kinds, name);
}

}  // namespace hone
