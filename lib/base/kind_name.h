// Names of kinds with numbers, as people type them: "window:512:4", of the form "window:SIZE[:SINKS]".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hone {

std::string first_word(const std::string& name);  // of a name or of a form

// The numbers of `name`, from 0 to 2^31 - 1 each. Throws Error(usage) for what is none, and for more or fewer than
// `form` has (those in brackets may be left out); `what` is named before the name: "attention".
std::vector<int64_t> numbers_of(const std::string& what, const std::string& name, const std::string& form);

}  // namespace hone
