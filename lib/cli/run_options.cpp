#include "cli/run_options.h"

#include <algorithm>

#include "base/error.h"

namespace hone::cli {
namespace {

// "--valid-every" as the description has it: "valid_every".
std::string key_of(const CLI::Option& option) {
  std::string key = option.get_lnames().front();
  std::replace(key.begin(), key.end(), '-', '_');
  return key;
}

}  // namespace

Declared& Declared::shapes(Shapes what, const char* as) {
  RunOptions::Entry& entry = all_->entries_[index_];
  entry.shapes = what;
  entry.as = *as ? as : key_of(*entry.option);
  return *this;
}

Declared& Declared::shapes_by(std::function<nlohmann::json()> value) {
  RunOptions::Entry& entry = all_->entries_[index_];
  entry.initial = value();
  entry.value = std::move(value);
  return shapes(Shapes::run);
}

Declared& Declared::of_new_model() {
  all_->entries_[index_].of_new_model = true;
  return *this;
}

Declared& Declared::shown_default(const std::string& text) {
  all_->entries_[index_].option->default_str(text);
  return *this;
}

Declared& Declared::type_name(const std::string& text) {
  all_->entries_[index_].option->type_name(text);
  return *this;
}

Declared& Declared::excludes(const Declared& other) {
  all_->entries_[index_].option->excludes(all_->entries_[other.index_].option);
  return *this;
}

Declared& Declared::required() {
  all_->entries_[index_].option->required();
  return *this;
}

void RunOptions::group(const std::string& name, const std::string& description) {
  group_ = app_.add_option_group(name, description);
  group_name_ = name;
}

Declared RunOptions::flag(const std::string& names, bool& value, const std::string& help) {
  return declared(group_->add_flag(names, value, help), [&value] { return nlohmann::json(value); });
}

Declared RunOptions::flag(const std::string& names, std::optional<bool>& value, const std::string& help) {
  // A negated flag counts as -1.
  return declared(group_->add_flag_function(
                      names, [&value](int64_t n) { value = n > 0; }, help),
                  [&value] { return json_of(value); });
}

Declared RunOptions::declared(CLI::Option* option, std::function<nlohmann::json()> value) {
  nlohmann::json initial = value();
  entries_.push_back({option, group_name_, std::move(value), std::move(initial)});
  return {*this, entries_.size() - 1};
}

void RunOptions::require_all_stated() const {
  for (const Entry& entry : entries_)
    if (!entry.shapes) throw internal_error("{}: nothing says what of the run it shapes", entry.option->get_name());
}

nlohmann::json RunOptions::description() const {
  nlohmann::json values = nlohmann::json::object();
  for (const Entry& entry : entries_)
    if (entry.shapes == Shapes::run)
      if (nlohmann::json value = entry.value(); !value.is_null()) values[entry.as] = std::move(value);
  return values;
}

nlohmann::json RunOptions::defaults() const {
  nlohmann::json values = nlohmann::json::object();
  for (const Entry& entry : entries_)
    if (entry.shapes == Shapes::run && !entry.initial.is_null()) values[entry.as] = entry.initial;
  return values;
}

void RunOptions::require_described(const nlohmann::json& description) const {
  for (const Entry& entry : entries_)
    if ((entry.shapes == Shapes::run || entry.shapes == Shapes::derived) && entry.option->count() > 0 &&
        !description.contains(entry.as))
      throw internal_error("{} shapes the run, and its description has no '{}'", entry.option->get_name(), entry.as);
}

bool RunOptions::given(const std::string& option) const {
  return app_.get_option(option)->count() > 0;
}

std::vector<std::string> RunOptions::of_new_model() const {
  std::vector<std::string> names;
  for (const Entry& entry : entries_)
    if (entry.of_new_model) names.push_back(entry.option->get_name());
  return names;
}

std::vector<std::string> RunOptions::in_group(const std::string& name) const {
  std::vector<std::string> names;
  for (const Entry& entry : entries_)
    if (entry.group == name) names.push_back(entry.option->get_name());
  return names;
}

}  // namespace hone::cli
