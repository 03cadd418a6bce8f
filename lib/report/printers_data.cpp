// Reports for programs: JSON, JSON lines and CSV. Numbers are written in full, so that reading them gives the same
// double.
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/version.h"
#include "report/printers.h"

namespace hone {
namespace {

using Json = nlohmann::ordered_json;

Json json_of(const Cell& cell) {
  if (const auto* text = std::get_if<std::string>(&cell)) return *text;
  if (const auto* integer = std::get_if<int64_t>(&cell)) return *integer;
  if (const auto* real = std::get_if<double>(&cell); real && std::isfinite(*real)) return *real;
  if (const auto* list = std::get_if<std::vector<double>>(&cell)) return *list;
  if (const auto* list = std::get_if<std::vector<int64_t>>(&cell)) return *list;
  return nullptr;
}

Json json_of_row(const Report& report, size_t row) {
  Json object = Json::object();
  for (size_t c = 0; c < report.columns().size(); ++c) object[report.columns()[c].name] = json_of(report.cell(row, c));
  for (const auto& [name, cell] : report.common().cells()) object[name] = json_of(cell);
  return object;
}

// A file name need not be UTF-8, JSON must be: other bytes become U+FFFD.
std::string dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string csv_of(const Cell& cell) {
  if (const auto* text = std::get_if<std::string>(&cell)) return csv_field(*text);
  if (const auto* integer = std::get_if<int64_t>(&cell)) return fmt::format("{}", *integer);
  if (const auto* real = std::get_if<double>(&cell)) return fmt::format("{}", *real);
  if (const auto* list = std::get_if<std::vector<double>>(&cell)) return fmt::format("{}", fmt::join(*list, " "));
  if (const auto* list = std::get_if<std::vector<int64_t>>(&cell)) return fmt::format("{}", fmt::join(*list, " "));
  return {};
}

// "expert_load_3": there are as many as a model has layers.
bool of_one_layer(const std::string& name) {
  const size_t number = name.find_last_not_of("0123456789");
  return number != std::string::npos && number + 1 < name.size() && name[number] == '_';
}

// Of a row, or of all.
Cell cell_named(const Report& report, size_t row, const std::string& name) {
  for (const auto& [key, cell] : report.common().cells())
    if (key == name) return cell;
  for (size_t c = 0; c < report.columns().size(); ++c)
    if (report.columns()[c].name == name) return report.cell(row, c);
  return {};
}

}  // namespace

std::string print_json(const Report& report) {
  Json json = {{"schema_version", report_schema_version}, {"version", version()}, {"rows", Json::array()}};
  for (size_t r = 0; r < report.size(); ++r) json["rows"].push_back(json_of_row(report, r));
  return dump(json, 2) + "\n";
}

std::string print_jsonl(const Report& report) {
  std::string out;
  for (size_t r = 0; r < report.size(); ++r) {
    Json line = {{"schema_version", report_schema_version}};
    line.update(json_of_row(report, r));
    line["version"] = version();
    out += dump(line, -1) + "\n";
  }
  return out;
}

std::string print_csv(const Report& report) {
  std::vector<std::string> names = report.csv();
  const auto add = [&](const std::string& name) {
    if (!report.csv().empty() && of_one_layer(name)) return;
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  for (const Report::Column& column : report.columns()) add(column.name);
  for (const auto& [name, cell] : report.common().cells()) add(name);
  std::string out = "schema_version";
  for (const std::string& name : names) (out += ',') += csv_field(name);
  out += ",version\n";
  for (size_t r = 0; r < report.size(); ++r) {
    out += fmt::format("{}", report_schema_version);
    for (const std::string& name : names) (out += ',') += csv_of(cell_named(report, r, name));
    out += fmt::format(",{}\n", version());
  }
  return out;
}

}  // namespace hone
