// Options of a run, each declared once: its name, place, help and range, and what of the run it shapes. The parser and
// --help, configuration files, the lineage and the description that a checkpoint is resumed under follow from that.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/option_values.h"

namespace hone::cli {

// How a run that is resumed is held to what it was begun with.
enum class Shapes {
  run,      // by the option's value, which the description has under its name ("valid_every")
  derived,  // by what follows from it and the model, texts or machine that it meets, which settings add under a name
  model,    // by the model in the checkpoint
  texts,    // by fingerprints of the texts
  nothing,  // where results go, and what is said on the way: it may change
};

class RunOptions;

// An option that was declared. Every one says what it shapes.
class Declared {
 public:
  Declared& shapes(Shapes what) { return shapes(what, ""); }
  Declared& shapes(Shapes what, const char* as);  // derived: the name in the description
  // The run, by what follows from options alone, which the description has under the option's name. Asked at once, too,
  // for what it is without any.
  Declared& shapes_by(std::function<nlohmann::json()> value);
  Declared& of_new_model();  // it describes one that is made: none that exists can have it
  Declared& shown_default(const std::string& text);
  Declared& type_name(const std::string& text);
  Declared& excludes(const Declared& other);
  Declared& required();

 private:
  friend class RunOptions;
  Declared(RunOptions& all, size_t index) : all_(&all), index_(index) {}
  RunOptions* all_;
  size_t index_;
};

class RunOptions {
 public:
  explicit RunOptions(CLI::App& app) : app_(app) {}
  RunOptions(const RunOptions&) = delete;
  RunOptions& operator=(const RunOptions&) = delete;

  // Those that are declared from now on stand in this group.
  void group(const std::string& name, const std::string& description = "");

  template <class T>
  Declared count(const std::string& names, T& value, const std::string& help, CountRange range = {}) {
    return declared(add_count(group_, names, value, help, range), [&value] { return json_of(value); });
  }
  Declared bytes(const std::string& names, int64_t& value, const std::string& help) {
    return declared(add_bytes(group_, names, value, help), [&value] { return json_of(value); });
  }
  template <class T>
  Declared fraction(const std::string& names, T& value, const std::string& help) {
    return declared(add_fraction(group_, names, value, help), [&value] { return json_of(value); });
  }
  template <class T>
  Declared number(const std::string& names, T& value, const std::string& help, NumberRange range = {}) {
    return declared(add_number(group_, names, value, help, range), [&value] { return json_of(value); });
  }
  // A text or, where several may be given, a list of them; `choices` are those there are, none: any.
  template <class T>
  Declared text(const std::string& names, T& value, const std::string& help, std::vector<std::string> choices = {}) {
    CLI::Option* option = group_->add_option(names, value, help);
    if (!choices.empty()) option->check(one_of(std::move(choices)));
    return declared(option, [&value] { return json_of(value); });
  }
  Declared flag(const std::string& names, bool& value, const std::string& help);
  Declared flag(const std::string& names, std::optional<bool>& value, const std::string& help);  // "--tied,!--untied"

  // After the last: throws Error(internal) for an option of which nobody has said what it shapes.
  void require_all_stated() const;

  // The values of those that shape the run; options without a default only where they are given.
  nlohmann::json description() const;
  // The same of a run without options: what a checkpoint was made with that does not know an option.
  nlohmann::json defaults() const;
  // Throws Error(internal) where one of the options that were given shapes the run, and `description` has nothing of
  // it.
  void require_described(const nlohmann::json& description) const;

  bool given(const std::string& option) const;
  std::vector<std::string> of_new_model() const;  // their names
  std::vector<std::string> in_group(const std::string& name) const;

 private:
  friend class Declared;
  struct Entry {
    CLI::Option* option;
    std::string group;
    std::function<nlohmann::json()> value;
    nlohmann::json initial;
    std::optional<Shapes> shapes = {};
    std::string as = {};  // in the description
    bool of_new_model = false;
  };

  template <class T>
  static nlohmann::json json_of(const T& value) {
    return value;
  }
  template <class T>
  static nlohmann::json json_of(const std::optional<T>& value) {
    return value ? nlohmann::json(*value) : nlohmann::json();
  }
  Declared declared(CLI::Option* option, std::function<nlohmann::json()> value);

  CLI::App& app_;
  CLI::Option_group* group_ = nullptr;
  std::string group_name_;
  std::vector<Entry> entries_;
};

}  // namespace hone::cli
