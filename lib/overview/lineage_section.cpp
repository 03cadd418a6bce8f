#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/spelling.h"
#include "base/units.h"
#include "overview/html.h"
#include "overview/sections.h"

namespace hone {
namespace {

using nlohmann::json;

const ListedModel* with_sha256(const RunFiles& files, const std::string& sha256) {
  for (const ListedModel& model : files.models)
    if (!sha256.empty() && model.sha256 == sha256) return &model;
  return nullptr;
}

bool is_parent(const RunFiles& files, const ListedModel& model) {
  return std::ranges::any_of(files.models, [&](const ListedModel& other) {
    return other.lineage.is_array() && std::ranges::any_of(other.lineage, [&](const json& stage) {
             return text_of(stage, "parent_sha256") == model.sha256;
           });
  });
}

std::string command_of(const json& stage) {
  std::string text = text_of(stage, "tool");
  const auto arguments = stage.find("arguments");
  if (arguments != stage.end() && arguments->is_array())
    for (const json& word : *arguments) text += " " + (word.is_string() ? word.get<std::string>() : word.dump());
  return text;
}

std::string results_of(const json& stage) {
  const auto results = stage.find("results");
  if (results == stage.end() || !results->is_object()) return "";
  std::string text;
  for (const auto& [name, value] : results->items()) {
    if (value.is_structured() || value.is_null()) continue;
    const std::string shown = value.is_number_float() ? fmt::format("{:.5g}", value.get<double>())
                              : value.is_string()     ? value.get<std::string>()
                                                      : value.dump();
    std::string words = name;
    std::replace(words.begin(), words.end(), '_', ' ');
    text += (text.empty() ? "" : ", ") + words + " " + shown;
  }
  return text;
}

std::string chain_of(const RunFiles& files, const ListedModel& model) {
  std::vector<std::vector<HtmlCell>> rows;
  if (model.lineage.is_array())
    for (size_t i = 0; i < model.lineage.size(); ++i) {
      const json& stage = model.lineage[i];
      if (!stage.is_object()) continue;
      const bool last = i + 1 == model.lineage.size();
      // What a stage wrote is what the next one read.
      const ListedModel* made = last ? &model : with_sha256(files, text_of(model.lineage[i + 1], "parent_sha256"));
      const std::string version = text_of(stage, "version");
      rows.push_back(
          {{.text = fmt::format("{}. {}", i + 1, text_of(stage, "tool")), .note = version},
           {.text = command_of(stage), .code = true},
           {.text = results_of(stage)},
           {.text = made ? made->name : "", .note = made ? format_bytes(static_cast<double>(made->file_bytes)) : ""}});
    }
  const std::string about =
      fmt::format("{}{} of width {}, context {}, sha256 {}", model.checkpoint ? "checkpoint, " : "",
                  counted(model.layers, "layer"), model.dim, model.context, model.sha256);
  return "<h3>" + html_escaped(model.name) + "</h3>\n<p>" + html_escaped(about) + "</p>\n" +
         (rows.empty() ? "" : html_table({"stage", "command", "measured", "file"}, rows));
}

}  // namespace

std::string lineage_section(const RunFiles& files) {
  std::string content;
  for (const ListedModel& model : files.models)
    if (!is_parent(files, model)) content += chain_of(files, model);
  if (content.empty()) return "";
  return html_section("Where the files come from",
                      "Each file names the one that it was made of by its SHA-256; a file is named here where it was "
                      "among those that were read.",
                      content);
}

}  // namespace hone
