// The activations of feed-forwards. A new one is a function of ops and a row here; who counts, names or runs
// activations asks the row.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/rows.h"
#include "ops/activation.h"

namespace hone {

struct ActivationInfo {
  std::string_view name;          // in configurations and options
  std::string_view what;          // for people
  bool gated;                     // takes gates and values, [rows, 2 * width], and so three matrices instead of two
  Var (*function)(const Var& x);  // gives [rows, width]
};
inline constexpr ActivationInfo activation_kinds[] = {
    {"swiglu", "SwiGLU", true, ops::swiglu},
    {"gelu", "GELU in its tanh form", false, ops::gelu},
    {"gelu_erf", "GELU itself, not its tanh form", false, ops::gelu_erf},
};

// A place in the table; the first is the default.
enum class ActivationKind : uint8_t {};

constexpr const ActivationInfo& info_of(ActivationKind kind) {
  return activation_kinds[static_cast<size_t>(kind)];
}
consteval ActivationKind activation_named(std::string_view name) {
  return row_named<ActivationKind>(activation_kinds, name);
}

}  // namespace hone
