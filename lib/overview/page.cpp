#include "overview/page.h"

#include <fmt/format.h>

#include "overview/html.h"
#include "overview/sections.h"

namespace hone {
namespace {

std::string names_of(const RunFiles& files) {
  std::string text;
  const auto add = [&](const std::string& name) { text += (text.empty() ? "" : ", ") + name; };
  for (const ListedModel& model : files.models) add(model.name);
  for (const RunLog& log : files.logs) add(log.name);
  for (const auto* results : {&files.scores, &files.speeds})
    for (const ResultRows& result : *results) add(result.name);
  return text;
}

}  // namespace

std::string overview_page(const RunFiles& files, const std::string& title) {
  return html_page(title, "Of " + names_of(files) + ".",
                   glance_section(files) + scores_section(files) + curves_section(files) + experts_section(files) +
                       speeds_section(files) + lineage_section(files));
}

}  // namespace hone
