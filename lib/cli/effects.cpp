#include "cli/effects.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/log.h"

namespace hone::cli {
namespace {

// Under its first long name, as everything else is that is said of an option.
void warn(const std::vector<std::string>& names, const std::string& why) {
  if (names.size() == 1) {
    log_warning("{} has no effect {}", names.front(), why);
    return;
  }
  log_warning("{} and {} have no effect {}", fmt::join(names.begin(), names.end() - 1, ", "), names.back(), why);
}

}  // namespace

bool given(const CLI::App& app, const std::string& option) {
  return app.get_option(option)->count() > 0;
}

void warn_of_idle(const CLI::App& app, const std::vector<Idle>& options) {
  std::vector<std::string> said;
  for (const Idle& first : options) {
    const std::string why = first.why;
    if (std::find(said.begin(), said.end(), why) != said.end()) continue;
    said.push_back(why);
    std::vector<std::string> names;
    for (const Idle& i : options)
      if (i.idle && why == i.why && given(app, i.option)) names.emplace_back(i.option);
    if (!names.empty()) warn(names, why);
  }
}

void warn_of_idle_group(const CLI::App& app, const std::string& group, bool idle, const char* why) {
  if (!idle) return;
  std::vector<std::string> names;
  for (const CLI::App* inner : app.get_subcommands([&](const CLI::App* a) { return a->get_group() == group; }))
    for (const CLI::Option* option : inner->get_options())
      if (option->count() > 0) names.push_back(option->get_name());
  if (!names.empty()) warn(names, why);
}

}  // namespace hone::cli
