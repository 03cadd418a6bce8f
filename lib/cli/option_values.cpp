#include "cli/option_values.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "base/error.h"
#include "base/spelling.h"
#include "base/units.h"

namespace hone::cli {
namespace {

template <class Value, class Parse>
CLI::Option* add_parsed(CLI::App* app, const std::string& names, Value& value, const std::string& description,
                        const char* type, const std::string& shown, Parse parse) {
  const size_t begin = names.find("--");
  const std::string label =
      names.substr(begin, names.find(',', begin) - begin);  // the first long name, as CLI11 has it
  auto* option = app->add_option_function<std::string>(
      names,
      [&value, parse, label](const std::string& text) {
        try {
          value = parse(text);
        } catch (const Error& error) {
          const std::string_view what = error.what();
          throw usage_error("{}{}{}", label, what.starts_with("must ") ? " " : ": ", what);
        }
      },
      description);
  option->type_name(type);
  option->default_str(shown);
  return option;
}

auto count_in(CountRange range) {
  return [range](const std::string& text) {
    const int64_t value = parse_count(text);
    if (value < range.least) throw usage_error("must be at least {}, not {}", range.least, text);
    if (value > range.most) throw usage_error("must be at most {}, not {}", range.most, text);
    return value;
  };
}

auto counts_in(CountRange range) {
  return [range](const std::string& text) { return parse_counts(text, range); };
}

auto number_in(NumberRange range) {
  return [range](const std::string& text) {
    const double value = parse_number(text);
    if (range.least && value < *range.least) throw usage_error("must be {} or more, not {}", *range.least, text);
    if (range.above && value <= *range.above) throw usage_error("must be above {}, not {}", *range.above, text);
    if (range.most && value > *range.most) throw usage_error("must be at most {}, not {}", *range.most, text);
    if (range.below && value >= *range.below) throw usage_error("must be below {}, not {}", *range.below, text);
    if (range.whole && value != std::floor(value)) throw usage_error("must be a whole number, not {}", text);
    return value;
  };
}

}  // namespace

std::vector<int64_t> parse_counts(const std::string& text, CountRange range) {
  std::vector<int64_t> values;
  std::istringstream items(text);
  for (std::string item; std::getline(items, item, ',');) values.push_back(parse_count(item));
  if (values.empty() || text.ends_with(',')) throw usage_error("'{}' is not a list of numbers like 128,512", text);
  for (const int64_t value : values) count_in(range)(std::to_string(value));
  return values;
}

CLI::Option* add_count(CLI::App* app, const std::string& names, int64_t& value, const std::string& description,
                       CountRange range) {
  return add_parsed(app, names, value, description, "COUNT", fmt::format("{}", value), count_in(range));
}

CLI::Option* add_count_or(CLI::App* app, const std::string& names, int64_t& value, std::string& other, const char* type,
                          const std::string& description, CountRange range) {
  const auto parse = [&value, &other, range](const std::string& text) {
    if (text.find(':') == std::string::npos) return count_in(range)(text);
    other = text;
    return value;
  };
  return add_parsed(app, names, value, description, type, fmt::format("{}", value), parse);
}

CLI::Option* add_counts(CLI::App* app, const std::string& names, std::vector<int64_t>& values,
                        const std::string& description, CountRange range) {
  return add_parsed(app, names, values, description, "COUNTS", fmt::format("{}", fmt::join(values, ",")),
                    counts_in(range))
      ->join(',');
}

CLI::Option* add_bytes(CLI::App* app, const std::string& names, int64_t& value, const std::string& description) {
  return add_parsed(app, names, value, description, "BYTES", fmt::format("{}", value), parse_bytes);
}

CLI::Option* add_fraction(CLI::App* app, const std::string& names, double& value, const std::string& description) {
  return add_parsed(app, names, value, description, "FRACTION", fmt::format("{}", value), parse_fraction);
}

CLI::Option* add_number(CLI::App* app, const std::string& names, double& value, const std::string& description,
                        NumberRange range) {
  return add_parsed(app, names, value, description, "NUMBER", fmt::format("{}", value), number_in(range));
}

CLI::Option* add_seed(CLI::App* app, const std::string& names, uint64_t& value, const std::string& description) {
  return add_parsed(app, names, value, description, "SEED", fmt::format("{}", value), parse_seed);
}

CLI::Option* add_count(CLI::App* app, const std::string& names, std::optional<int64_t>& value,
                       const std::string& description, CountRange range) {
  return add_parsed(app, names, value, description, "COUNT", "", count_in(range));
}

CLI::Option* add_fraction(CLI::App* app, const std::string& names, std::optional<double>& value,
                          const std::string& description) {
  return add_parsed(app, names, value, description, "FRACTION", "", parse_fraction);
}

CLI::Option* add_number(CLI::App* app, const std::string& names, std::optional<double>& value,
                        const std::string& description, NumberRange range) {
  return add_parsed(app, names, value, description, "NUMBER", "", number_in(range));
}

namespace {

CLI::Validator choice_of(std::vector<std::string> names, bool numbers) {
  const std::string shown = fmt::format("{}", fmt::join(names, "|"));
  return CLI::Validator(
      [names = std::move(names), numbers](std::string& text) -> std::string {
        const std::string name = numbers ? text.substr(0, text.find(':')) : text;
        if (std::find(names.begin(), names.end(), name) != names.end()) return "";
        return fmt::format("'{}' is not {}{}", name, either_of(names), did_you_mean(name, names));
      },
      shown);
}

}  // namespace

CLI::Validator one_of(std::vector<std::string> names) {
  return choice_of(std::move(names), false);
}

CLI::Validator one_of_with_numbers(std::vector<std::string> names) {
  return choice_of(std::move(names), true);
}

namespace {

int64_t layer_number(const std::string& option, const std::string& text, size_t count) {
  const int64_t layer = [&] {
    try {
      return parse_count(text);
    } catch (const Error& error) {
      throw usage_error("{}: {}", option, error.what());
    }
  }();
  if (layer < 0 || layer >= static_cast<int64_t>(count))
    throw usage_error("{} names layer {}; the model has layers 0 to {}", option, layer, count - 1);
  return layer;
}

}  // namespace

std::vector<bool> parse_layers(const std::string& option, const std::string& text, size_t count) {
  std::vector<bool> chosen(count, text == "all");
  if (text == "all") return chosen;
  if (text.starts_with("every:")) {
    const int64_t n = parse_count(text.substr(6));
    if (n < 1 || n > static_cast<int64_t>(count))
      throw usage_error("{} {}: a number between 1 and the {} layers is needed", option, text, count);
    for (size_t i = static_cast<size_t>(n) - 1; i < count; i += static_cast<size_t>(n)) chosen[i] = true;
    return chosen;
  }
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const auto layer = static_cast<size_t>(layer_number(option, text.substr(begin, end - begin), count));
    if (chosen[layer]) throw usage_error("{} {} names layer {} twice", option, text, layer);
    chosen[layer] = true;
    begin = end + 1;
  }
  return chosen;
}

}  // namespace hone::cli
