#include "cli/config_file.h"

// The only place that compiles the library.
#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 1
#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <set>

#include "base/error.h"
#include "base/spelling.h"
#include "cli/tools.h"

namespace hone::cli {
namespace {

constexpr size_t most_bytes = 1 << 20;

const std::vector<std::string> tables = tool_names();

// One key of the file that this tool reads.
struct Setting {
  std::string key;
  const toml::node* node = nullptr;
  CLI::Option* option = nullptr;
  bool of_tool = false;  // stands in the tool's own table
  size_t line() const { return node->source().begin.line; }
};

// Whether an option takes several values: over lines of an array, or by repeating it.
bool takes_several(const CLI::Option& option) {
  return option.get_items_expected_max() > 1 || option.get_multi_option_policy() == CLI::MultiOptionPolicy::Join;
}

bool is_flag(const CLI::Option& option) {
  return option.get_expected_min() == 0;
}

bool takes_numbers(const CLI::Option& option) {
  static const char* types[] = {"COUNT", "FRACTION", "NUMBER", "BYTES", "SEED", "INT", "UINT", "FLOAT"};
  const std::string type = option.get_type_name();
  return std::any_of(std::begin(types), std::end(types), [&](const char* name) { return type.starts_with(name); });
}

std::string kind_of(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a text";
    case toml::node_type::integer:
    case toml::node_type::floating_point:
      return "a number";
    case toml::node_type::boolean:
      return "true or false";
    default:
      return "a date or time";
  }
}

class TomlReader : public CLI::Config {
 public:
  TomlReader(CLI::App& app, std::string tool, std::vector<Exclusion> exclusions, std::vector<std::string>* notes)
      : app_(app), tool_(std::move(tool)), exclusions_(std::move(exclusions)), notes_(notes) {}

  std::string to_config(const CLI::App*, bool, bool, std::string) const override { return ""; }

  std::vector<CLI::ConfigItem> from_config(std::istream& in) const override {
    const CLI::Option* asked[] = {app_.get_help_ptr(), app_.get_version_ptr()};
    for (const CLI::Option* option : asked)
      if (option->count() > 0) return {};  // whatever the file says
    refuse_several_files(app_);
    const std::string path = app_.get_config_ptr()->as<std::string>();
    const toml::table root = parse(in, path);
    apply(settings_of(root, path), path);
    return {};  // nothing is left for CLI11 to do
  }

 private:
  template <class... Args>
  static Error wrong(const std::string& path, size_t line, fmt::format_string<Args...> format, Args&&... args) {
    return usage_error("{}:{}: {}", path, line, fmt::format(format, std::forward<Args>(args)...));
  }

  static toml::table parse(std::istream& in, const std::string& path) {
    std::string text(most_bytes + 1, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(in.gcount()));
    if (text.size() > most_bytes)
      throw input_error("'{}' is larger than 1 MiB, which no configuration file is; --config names a TOML file", path);
    try {
      return toml::parse(text, path);
    } catch (const toml::parse_error& error) {
      throw input_error("{}:{}: no valid TOML: {}", path, error.source().begin.line, error.description());
    }
  }

  // Own keys come last.
  std::vector<Setting> settings_of(const toml::table& root, const std::string& path) const {
    std::vector<Setting> settings;
    const toml::table* own = nullptr;
    for (const auto& [key, node] : root) {
      const std::string name(key.str());
      if (!node.is_table() || !known_table(name)) {
        settings.push_back({name, &node});
        if (node.is_table())
          throw wrong(path, node.source().begin.line, "unknown table '[{}]'{}; tables are named as the tools", name,
                      did_you_mean(name, tables));
      } else if (name == tool_) {
        own = node.as_table();
      }
    }
    if (own)
      for (const auto& [key, node] : *own) settings.push_back({std::string(key.str()), &node, nullptr, true});
    std::stable_sort(settings.begin(), settings.end(), [](const Setting& a, const Setting& b) {
      return std::pair(a.of_tool, a.line()) < std::pair(b.of_tool, b.line());
    });
    for (Setting& setting : settings) setting.option = option_of(setting, path);
    return settings;
  }

  static bool known_table(const std::string& name) {
    return std::find(tables.begin(), tables.end(), name) != tables.end();
  }

  CLI::Option* option_of(const Setting& setting, const std::string& path) const {
    const CLI::Option* unusable[] = {app_.get_config_ptr(), app_.get_help_ptr(), app_.get_version_ptr()};
    for (const CLI::Option* option : all_options(app_)) {
      const auto& names = option->get_lnames();
      const bool named = std::find(names.begin(), names.end(), setting.key) != names.end();
      if (!named && !(option->get_positional() && CLI::detail::to_lower(option->get_name(true)) == setting.key))
        continue;
      if (std::find(std::begin(unusable), std::end(unusable), option) != std::end(unusable))
        throw wrong(path, setting.line(), "'{}' is of the command line alone", setting.key);
      return const_cast<CLI::Option*>(option);  // the app is ours to fill; only its lists of options are const
    }
    std::vector<std::string> names = long_names(app_);
    for (std::string& name : names) name.erase(0, 2);
    throw wrong(
        path, setting.line(), "unknown key '{}'{}{}", setting.key, did_you_mean(setting.key, names),
        setting.of_tool ? "" : fmt::format("; keys above the tables are for every tool, [{}] is for this", tool_));
  }

  void apply(const std::vector<Setting>& settings, const std::string& path) const {
    std::set<const CLI::Option*> given;  // on the command line
    for (const CLI::Option* option : all_options(app_))
      if (option->count() > 0) given.insert(option);
    std::map<const CLI::Option*, const Setting*> chosen;
    for (const Setting& setting : settings) {
      const Setting*& there = chosen[setting.option];
      if (there && there->of_tool == setting.of_tool)
        throw wrong(path, setting.line(), "'{}' is the option that line {} has given as '{}'", setting.key,
                    there->line(), there->key);
      there = &setting;
    }
    for (const Setting& setting : settings) {
      const std::vector<std::string> values = texts_of(setting, path);  // what is overruled is checked, too
      if (chosen.at(setting.option) != &setting || given.contains(setting.option)) continue;
      if (const CLI::Option* by = overruled_by(setting, given, chosen, path)) {
        if (notes_)
          notes_->push_back(fmt::format("{}:{}: '{}' gives way to {} on the command line", path, setting.line(),
                                        setting.key, by->get_name()));
        continue;
      }
      if (overruled_within(setting, chosen, path)) continue;
      give(setting, values, path);
    }
  }

  // The option on the command line that excludes this one, or null.
  const CLI::Option* overruled_by(const Setting& setting, const std::set<const CLI::Option*>& given,
                                  const std::map<const CLI::Option*, const Setting*>& chosen,
                                  const std::string& path) const {
    for (const CLI::Option* other : setting.option->get_excludes())
      if (given.contains(other)) return other;
    const ValuesOf values = [&](const std::string& name) -> std::vector<std::string> {
      for (const CLI::Option* option : given)
        if (option->check_name(name)) return option->results();
      for (const auto& [option, there] : chosen)
        if (option->check_name(name)) return texts_of(*there, path);
      return {};
    };
    for (const Exclusion& rule : exclusions_) {
      const auto names = [&](const std::string& name) { return setting.option->check_name(name); };
      if (std::none_of(rule.others.begin(), rule.others.end(), names)) continue;
      const auto winner =
          std::find_if(given.begin(), given.end(), [&](const CLI::Option* o) { return o->check_name(rule.option); });
      if (winner != given.end() && (!rule.where || rule.where(values))) return *winner;
    }
    return nullptr;
  }

  // Whether an option that excludes this one is closer to the tool than this one.
  static bool overruled_within(const Setting& setting, const std::map<const CLI::Option*, const Setting*>& chosen,
                               const std::string& path) {
    for (const CLI::Option* other : setting.option->get_excludes()) {
      const auto found = chosen.find(other);
      if (found == chosen.end()) continue;
      if (found->second->of_tool && !setting.of_tool) return true;
      if (found->second->of_tool == setting.of_tool && found->second->line() < setting.line())
        throw wrong(path, setting.line(), "'{}' and '{}' (line {}) exclude each other", setting.key, found->second->key,
                    found->second->line());
    }
    return false;
  }

  static void give(const Setting& setting, const std::vector<std::string>& values, const std::string& path) {
    try {
      for (const std::string& value : values) setting.option->add_result(value);
      if (!values.empty()) setting.option->run_callback();
    } catch (const Error& error) {
      throw wrong(path, setting.line(), "{}", error.what());
    } catch (const CLI::Error& error) {
      throw wrong(path, setting.line(), "{}", error.what());
    }
  }

  // The values as the command line would have them; none for a flag that is not raised.
  static std::vector<std::string> texts_of(const Setting& setting, const std::string& path) {
    const CLI::Option& option = *setting.option;
    if (is_flag(option)) {
      const auto flag = setting.node->value_exact<bool>();
      if (!flag)
        throw wrong(path, setting.line(), "'{}' is true or false, not {}", setting.key, kind_of(*setting.node));
      if (!*flag && option.get_fnames().empty()) return {};
      return {option.get_flag_value(setting.key, *flag ? "true" : "false")};
    }
    const toml::array* array = setting.node->as_array();
    if (!array) return {text_of(setting, *setting.node, path)};
    if (!takes_several(option)) throw wrong(path, setting.line(), "'{}' takes one value, not an array", setting.key);
    if (array->empty()) throw wrong(path, setting.line(), "'{}' is an empty array; leave the key out", setting.key);
    std::vector<std::string> texts;
    for (const toml::node& element : *array) texts.push_back(text_of(setting, element, path));
    return texts;
  }

  static std::string text_of(const Setting& setting, const toml::node& node, const std::string& path) {
    const size_t line = node.source().begin.line;
    if (const auto text = node.value_exact<std::string>()) {
      if (text->find('\0') != std::string::npos)
        throw wrong(path, line, "'{}' holds a character U+0000, which no value does", setting.key);
      return *text;
    }
    const auto whole = node.value_exact<int64_t>();
    const auto real = node.value_exact<double>();
    if (!whole && !real)
      throw wrong(path, line, "'{}' takes a {}, not {}", setting.key,
                  takes_numbers(*setting.option) ? "number" : "text", kind_of(node));
    const std::string text = whole ? fmt::format("{}", *whole) : fmt::format("{}", *real);
    if (!takes_numbers(*setting.option))
      throw wrong(path, line, "'{}' takes a text, not a number; write it as \"{}\"", setting.key, text);
    return text;
  }

  CLI::App& app_;
  std::string tool_;
  std::vector<Exclusion> exclusions_;
  std::vector<std::string>* notes_;
};

void collect(const CLI::App& app, std::vector<const CLI::Option*>& into) {
  for (const CLI::Option* option : app.get_options())
    if (std::find(into.begin(), into.end(), option) == into.end()) into.push_back(option);
  for (const CLI::App* group : app.get_subcommands([](const CLI::App* a) { return a->get_name().empty(); }))
    collect(*group, into);
}

// "--untied" for a flag that was lowered.
std::string flag_of(const CLI::Option& option, const std::string& result) {
  const bool lowered = result == "false" || result.starts_with('-');
  return lowered && !option.get_fnames().empty() ? "--" + option.get_fnames().front() : option.get_name();
}

}  // namespace

void refuse_several_files(CLI::App& app) {
  if (const size_t count = app.get_config_ptr()->count(); count > 1)
    throw usage_error("--config is given {} times and takes one value", count);
}

std::shared_ptr<CLI::Config> config_reader(CLI::App& app, std::string tool, std::vector<Exclusion> exclusions,
                                           std::vector<std::string>* notes) {
  return std::make_shared<TomlReader>(app, std::move(tool), std::move(exclusions), notes);
}

std::vector<const CLI::Option*> all_options(const CLI::App& app) {
  std::vector<const CLI::Option*> options;
  collect(app, options);
  return options;
}

std::vector<std::string> long_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : all_options(app))
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

std::vector<std::string> spelled_out(const CLI::App& app) {
  std::vector<std::string> positionals, options;
  for (const CLI::Option* option : all_options(app)) {
    if (option->count() == 0 || option == app.get_config_ptr()) continue;
    for (const std::string& result : option->results()) {
      if (option->get_positional()) {
        positionals.push_back(result);
      } else if (is_flag(*option)) {
        options.push_back(flag_of(*option, result));
      } else if (result.starts_with('-') && result.size() > 1) {
        options.push_back(option->get_name() + "=" + result);  // or it would be taken for an option
      } else {
        options.push_back(option->get_name());
        options.push_back(result);
      }
    }
  }
  positionals.insert(positionals.end(), options.begin(), options.end());
  return positionals;
}

}  // namespace hone::cli
