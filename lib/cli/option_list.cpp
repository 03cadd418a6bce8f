#include "cli/option_list.h"

#include <algorithm>
#include <cctype>
#include <sstream>

namespace hone::cli {
namespace {

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

}  // namespace

bool ListedOption::takes_file() const {
  for (const char* word : {"FILE", "FOLDER", "MODEL", "OTHER", "TEACHER"})
    if (value.find(word) != value.npos || (positional && names.front().find(word) != names.front().npos)) return true;
  return false;
}

std::string ListedOption::value_shown() const {
  std::string text = value.empty() ? "" : " " + value;
  if (!standard.empty()) text += "=" + standard;
  return many && !text.ends_with("...") ? text + " ..." : text;
}

ListedOption listed(const CLI::Option& option, const std::vector<std::string>& required) {
  ListedOption result;
  result.description = option.get_description();
  result.positional = option.get_positional();
  result.required =
      option.get_required() ||
      std::any_of(required.begin(), required.end(), [&](const std::string& name) { return option.check_name(name); });
  if (result.positional) {
    result.names = {upper(option.get_name(true, false))};
  } else {
    const std::vector<std::string>& lowering = option.get_fnames();
    for (const std::string& name : option.get_snames()) result.names.push_back("-" + name);
    for (const std::string& name : option.get_lnames())
      (std::find(lowering.begin(), lowering.end(), name) == lowering.end() ? result.names : result.lowered)
          .push_back("--" + name);
  }
  if (option.get_type_size() == 0) return result;
  result.many = option.get_expected_max() >= CLI::detail::expected_max_vector_size;
  result.several = result.many || option.get_multi_option_policy() == CLI::MultiOptionPolicy::Join ||
                   option.get_items_expected_max() > 1;
  result.standard = option.get_default_str();
  if (result.standard == "[]" || result.standard == "{}") result.standard.clear();
  if (result.positional) return result;
  result.value = option.get_type_name();
  const size_t kind = result.value.find(':');
  if (const std::string type = result.value.substr(0, kind);
      kind == std::string::npos || (type != "TEXT" && type != "INT"))
    return result;
  result.value.erase(0, kind + 1);  // of one_of(): names and numbers say what they are
  std::istringstream names(result.value);
  for (std::string name; std::getline(names, name, '|');) result.choices.push_back(name);
  return result;
}

std::vector<OptionGroup> listed_groups(const CLI::App& app, const std::vector<std::string>& required) {
  const auto of = [&](const CLI::App& part) {
    OptionGroup group;
    for (const CLI::Option* option : part.get_options()) group.options.push_back(listed(*option, required));
    return group;
  };
  std::vector<OptionGroup> groups = {of(app)};
  for (const CLI::App* part : app.get_subcommands([](const CLI::App* a) { return a->get_name().empty(); })) {
    OptionGroup group = of(*part);
    group.title = part->get_group();
    group.purpose = part->get_description();
    // CLI11 lists --help with every group.
    std::erase_if(group.options, [](const ListedOption& option) { return option.names.back() == "--help"; });
    if (!group.options.empty()) groups.push_back(std::move(group));
  }
  return groups;
}

std::string usage_of(const std::vector<OptionGroup>& groups) {
  std::string text;
  const auto add = [&](const std::string& word) { text += (text.empty() ? "" : " ") + word; };
  for (const bool positional : {true, false})
    for (const OptionGroup& group : groups)
      for (const ListedOption& option : group.options) {
        if (option.positional != positional || !(positional || option.required)) continue;
        if (!positional) {
          add(option.names.back() + " " + option.value);
        } else {
          const std::string name = option.names.front() + (option.many ? "..." : "");
          add(option.required ? name : "[" + name + "]");
        }
      }
  return text;
}

}  // namespace hone::cli
