// Reports for programs: JSON, JSON lines and CSV. Numbers are written in full, so that reading them gives the same
// double.
#include <fmt/ranges.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/version.h"
#include "measure/printers.h"

namespace hone {
namespace {

using Json = nlohmann::ordered_json;

Json json_of(const Cell& cell) {
  if (const auto* text = std::get_if<std::string>(&cell)) return *text;
  if (const auto* integer = std::get_if<int64_t>(&cell)) return *integer;
  if (const auto* real = std::get_if<double>(&cell); real && std::isfinite(*real)) return *real;
  if (const auto* list = std::get_if<std::vector<double>>(&cell)) return *list;
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
  std::string out = "schema_version";
  for (const Report::Column& column : report.columns()) (out += ',') += csv_field(column.name);
  for (const auto& [name, cell] : report.common().cells()) (out += ',') += csv_field(name);
  out += ",version\n";
  for (size_t r = 0; r < report.size(); ++r) {
    out += fmt::format("{}", report_schema_version);
    for (size_t c = 0; c < report.columns().size(); ++c) (out += ',') += csv_of(report.cell(r, c));
    for (const auto& [name, cell] : report.common().cells()) (out += ',') += csv_of(cell);
    out += fmt::format(",{}\n", version());
  }
  return out;
}

}  // namespace hone
