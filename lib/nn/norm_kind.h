// The norms before the halves of a block, and before the head. A new one is a function of ops and a row here.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/rows.h"
#include "ops/norm.h"

namespace hone {

struct NormInfo {
  std::string_view name;   // in configurations and options
  std::string_view what;   // for people
  ops::NormFunction* add;  // of the stream and what is added to it, with a gain and, where the model has any, a bias
  bool centres;            // takes the mean of a row from it first
  // Then divides by the root of the mean square, so that a rotation of rows without mean is one of what comes out.
  bool rotates;
};
inline constexpr NormInfo norm_kinds[] = {
    {"rms_norm", "RMSNorm", ops::add_rms_norm, false, true},
    {"layer_norm", "LayerNorm", ops::add_layer_norm, true, true},
};

// A place in the table; the first is the default.
enum class NormKind : uint8_t {};

constexpr const NormInfo& info_of(NormKind kind) {
  return norm_kinds[static_cast<size_t>(kind)];
}
consteval NormKind norm_named(std::string_view name) {
  return row_named<NormKind>(norm_kinds, name);
}

}  // namespace hone
