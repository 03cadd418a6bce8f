// Options whose values are numbers or names: what may be given is checked as the option is read, and said in words.
#pragma once

#include <algorithm>
#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace hone::cli {

// What a number may be. Numbers are finite in any case.
struct NumberRange {
  std::optional<double> least = {}, above = {}, most = {}, below = {};
  bool whole = false;  // none between whole numbers
};

// What a count may be. The default end is far beyond any use and leaves room for products with a batch.
struct CountRange {
  int64_t least = 0, most = 1'000'000'000'000'000;
};

// Sizes that memory must hold: of a batch, a window, a width.
constexpr CountRange size_range = {.least = 1, .most = 1 << 30};

// Options with units. The value shown as default in --help is the text that a person would type.
CLI::Option* add_count(CLI::App* app, const std::string& names, int64_t& value, const std::string& description,
                       CountRange range = {});  // 2000, 10M
// A count, or a text with a colon, which becomes `other`.
CLI::Option* add_count_or(CLI::App* app, const std::string& names, int64_t& value, std::string& other, const char* type,
                          const std::string& description, CountRange range);
CLI::Option* add_bytes(CLI::App* app, const std::string& names, int64_t& value,
                       const std::string& description);  // 4MiB
CLI::Option* add_fraction(CLI::App* app, const std::string& names, double& value,
                          const std::string& description);  // 0.2, 20%
CLI::Option* add_number(CLI::App* app, const std::string& names, double& value, const std::string& description,
                        NumberRange range = {});  // 0.5, 3e-4
CLI::Option* add_seed(CLI::App* app, const std::string& names, uint64_t& value, const std::string& description);
// The same without a default.
CLI::Option* add_count(CLI::App* app, const std::string& names, std::optional<int64_t>& value,
                       const std::string& description, CountRange range = {});
CLI::Option* add_fraction(CLI::App* app, const std::string& names, std::optional<double>& value,
                          const std::string& description);
CLI::Option* add_number(CLI::App* app, const std::string& names, std::optional<double>& value,
                        const std::string& description, NumberRange range = {});

// A list of counts with commas between: "128,512", "1k,4k". Repeating the option adds to the list.
CLI::Option* add_counts(CLI::App* app, const std::string& names, std::vector<int64_t>& values,
                        const std::string& description, CountRange range = {});

// For CLI::Option::check: one of these names; another is refused with the nearest of them.
CLI::Validator one_of(std::vector<std::string> names);
// The same where a colon and a number may follow a name, which is for others to read: "gptq:0.05".
CLI::Validator one_of_with_numbers(std::vector<std::string> names);

// Throws Error(usage) that names the option and a value of its list that stands there twice: whoever wrote it meant
// another, or believes that it counts twice.
template <class Value>
void require_each_once(const std::string& option, const std::vector<Value>& values) {
  for (auto value = values.begin(); value != values.end(); ++value)
    if (std::find(values.begin(), value, *value) != value) throw usage_error("{} names {} twice", option, *value);
}

// Layers of a model of so many, named as "all", "every:N" (every N-th) or "1,3,5" (from 0): which of them are. Throws
// Error(usage) that names the option.
std::vector<bool> parse_layers(const std::string& option, const std::string& text, size_t count);

std::vector<int64_t> parse_counts(const std::string& text, CountRange range = {});  // "128,512"; throws Error(usage)

}  // namespace hone::cli
