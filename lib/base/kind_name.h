// Names of kinds with numbers, as people type them: "window:512:4", of the form "window:SIZE[:SINKS]".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/find_row.h"

namespace hone {

// The numbers of `name`, from 0 to 2^31 - 1 each. Throws Error(usage) for what is none, and for more or fewer than
// `form` has (those in brackets may be left out); `what` is named before the name: "attention".
std::vector<int64_t> numbers_of(const std::string& what, const std::string& name, const std::string& form);

// Error(usage) "unknown pattern 'blok:4x4'; known: N:M, block:RxC; did you mean 'block'?". `forms` are names, with or
// without their numbers; `what` is what they are names of.
Error unknown_name(std::string_view what, std::string_view name, std::span<const std::string> forms);

}  // namespace hone
