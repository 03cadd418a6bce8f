#include "cli/help.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "base/wrap.h"
#include "cli/option_list.h"

namespace hone::cli {
namespace {

constexpr int narrowest = 40, widest = 200, usual = 100;
constexpr size_t option_indent = 2;

class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter(int width, std::vector<std::string> required)
      : width_(static_cast<size_t>(width)), required_(std::move(required)) {
    column_width(std::min<size_t>(28, width_ / 3));
  }

  std::string make_option_name(const CLI::Option* option, bool positional) const override {
    // CLI11 marks the names that lower a flag.
    return positional ? upper(option->get_name(true, false))
                      : CLI::detail::find_and_replace(option->get_name(false, true), "{false}", "");
  }

  // " FRACTION=0.2", " MODEL REQUIRED"; what excludes what stands in the descriptions.
  std::string make_option_opts(const CLI::Option* option) const override {
    const ListedOption known = listed(*option, required_);
    return known.value_shown() + (known.required ? " REQUIRED" : "");
  }

  std::string make_option(const CLI::Option* option, bool positional) const override {
    const std::string name = make_option_name(option, positional) + make_option_opts(option);
    const std::string blanks(option_indent, ' ');
    std::string line = blanks + wrapped(name, width_ - option_indent - 4, option_indent + 4);
    const std::string description = make_option_desc(option);
    if (description.empty()) return line + "\n";
    const size_t column = get_column_width();
    const size_t last = line.size() - (line.rfind('\n') + 1);  // npos + 1 is 0
    line += last + 1 < column ? std::string(column - last, ' ') : "\n" + std::string(column, ' ');
    return line + wrapped(description, width_ - column, column) + "\n";
  }

  std::string make_usage(const CLI::App* app, std::string name) const override {
    const std::string needs = usage_of(listed_groups(*app, required_));
    return wrapped(fmt::format("Usage: {} {} [OPTIONS]", name, needs), width_ - 4, 4) + "\n";
  }

  // A group of options: its name and what it is for, then the options.
  std::string make_expanded(const CLI::App* group) const override {
    const std::string name = group->get_group(), purpose = group->get_description();
    std::string text = "\n" + wrapped(purpose.empty() ? name + ":" : name + ": " + purpose, width_ - 2, 2) + "\n";
    for (const CLI::Option* option : group->get_options())
      if (option != group->get_help_ptr()) text += make_option(option, option->get_positional());
    return text;
  }

  std::string make_description(const CLI::App* app) const override {
    const std::string text = app->get_description();
    return text.empty() ? "" : wrapped(text, width_, 0) + "\n";
  }

 private:
  static std::string upper(std::string text) {
    for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    return text;
  }

  size_t width_;
  std::vector<std::string> required_;
};

}  // namespace

int help_width() {
  int width = 0;
  winsize size = {};
  if (const char* text = std::getenv("COLUMNS")) std::from_chars(text, text + std::strlen(text), width);
  if (width <= 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) width = size.ws_col;
  return width <= 0 ? usual : std::clamp(width, narrowest, widest);
}

std::shared_ptr<CLI::Formatter> help_formatter(int width, std::vector<std::string> required) {
  return std::make_shared<HelpFormatter>(width, std::move(required));
}

}  // namespace hone::cli
