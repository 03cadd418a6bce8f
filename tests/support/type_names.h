// Types that a source text defines in named namespaces, by their full names.
#pragma once

#include <string>
#include <vector>

namespace hone::test {

// The full name ("hone::Batch") of each class, struct, union and enumeration that `text` (C++) defines at namespace
// scope and that the linker would take for the same as another of its name: not in a namespace without a name, and not
// a declaration. Reads words and braces, not the language: a type defined by a macro is not seen.
std::vector<std::string> type_names(const std::string& text);

}  // namespace hone::test
