// Reports for people: aligned tables and Markdown.
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "base/units.h"
#include "base/version.h"
#include "report/printers.h"

namespace hone {
namespace {

constexpr size_t widest = 120;      // characters of a table that is not turned
constexpr size_t widest_text = 48;  // characters of a text in a table that is wider; other formats have all of it

struct TextColumn {
  std::string heading;
  bool right = true;               // numbers
  std::vector<std::string> cells;  // without the heading
};

// Characters, not bytes: bytes that continue a UTF-8 character take no room.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](unsigned char c) { return (c & 0xc0) != 0x80; }));
}

size_t width_of(const TextColumn& column) {
  size_t width = width_of(column.heading);
  for (const std::string& cell : column.cells) width = std::max(width, width_of(cell));
  return width;
}

// A control character in a file name must not break the layout or reach the terminal.
std::string printable(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return text;
}

std::string grouped(int64_t value) {
  std::string digits = fmt::format("{}", value);
  const size_t first = digits.starts_with('-') ? 1 : 0;
  for (size_t at = digits.size(); at > first + 3;) digits.insert(at -= 3, 1, ',');
  return digits;
}

// `digits` significant digits, without an exponent where the number is of a common size.
std::string significant(double value, int digits) {
  if (value == 0) return "0";
  // The exponent after rounding: 9.9996 with 4 digits is 10.00.
  const std::string scientific = fmt::format("{:.{}e}", value, digits - 1);
  const int exponent = std::stoi(scientific.substr(scientific.find('e') + 1));
  if (exponent < -4 || exponent > 8) return scientific;
  return fmt::format("{:.{}f}", value, std::max(0, digits - 1 - exponent));
}

std::string number_for_people(double value, Display display, int digits) {
  if (!std::isfinite(value)) return fmt::format("{}", value);
  switch (display) {
    case Display::plain:
      return significant(value, digits);
    case Display::fixed:
      return fmt::format("{:.{}f}", value, digits);
    case Display::whole:
      return std::abs(value) < 0x1p62 ? grouped(std::llround(value)) : fmt::format("{}", value);
    case Display::bytes:
      return format_bytes(value);
    case Display::count:
      return format_count(value);
    case Display::fraction:
      return format_percent(value, digits);
  }
  return {};
}

double number_of(const Cell& cell) {
  if (const auto* integer = std::get_if<int64_t>(&cell)) return static_cast<double>(*integer);
  const auto* real = std::get_if<double>(&cell);
  return real ? *real : std::nan("");
}

UnitPrefix prefix_of(const Report& report, size_t column) {
  std::vector<double> values;
  for (size_t r = 0; r < report.size(); ++r) values.push_back(number_of(report.cell(r, column)));
  return common_prefix(values);
}

// As text_for_people(), but with the unit of the column.
std::string text_in_column(const Cell& cell, const Report::Column& column, UnitPrefix prefix) {
  const double value = number_of(cell);
  if (std::isfinite(value) && column.display == Display::bytes) return format_with(value, prefix, "B");
  if (std::isfinite(value) && column.display == Display::count) return format_with(value, prefix, "");
  return text_for_people(cell, column.display, column.digits);
}

// The columns that have something to show.
std::vector<TextColumn> text_columns(const Report& report) {
  std::vector<TextColumn> result;
  for (size_t c = 0; c < report.columns().size(); ++c) {
    const Report::Column& column = report.columns()[c];
    TextColumn text{column.name, true, {}};
    bool empty = true;
    const UnitPrefix prefix = prefix_of(report, c);
    for (size_t r = 0; r < report.size(); ++r) {
      const Cell& cell = report.cell(r, c);
      text.cells.push_back(text_in_column(cell, column, prefix));
      empty = empty && text.cells.back().empty();
      text.right = text.right && !std::holds_alternative<std::string>(cell);
    }
    if (!empty && !column.detail) result.push_back(std::move(text));
  }
  return result;
}

// The first column becomes the headings.
std::vector<TextColumn> turned(const std::vector<TextColumn>& columns) {
  std::vector<TextColumn> result = {{columns[0].heading, false, {}}};
  for (const std::string& heading : columns[0].cells) result.push_back({heading, true, {}});
  for (size_t c = 1; c < columns.size(); ++c) {
    result[0].cells.push_back(columns[c].heading);
    for (size_t r = 0; r < columns[c].cells.size(); ++r) result[r + 1].cells.push_back(columns[c].cells[r]);
  }
  return result;
}

size_t total_width(const std::vector<TextColumn>& columns) {
  size_t total = 0;
  for (const TextColumn& column : columns) total += width_of(column) + 2;
  return total - 2;
}

// The first characters of a text that is long, and a sign that there were more.
std::string shortened(const std::string& text) {
  if (width_of(text) <= widest_text) return text;
  size_t end = 0;
  for (size_t characters = 0; characters < widest_text; ++end)
    characters += (static_cast<unsigned char>(text[end]) & 0xc0) != 0x80 ? 1 : 0;
  --end;  // where the last of them starts, which the sign replaces
  return text.substr(0, text.find_last_not_of(' ', end - 1) + 1) + "…";
}

std::string padded(const std::string& text, size_t width, bool right) {
  const std::string blanks(width - std::min(width, width_of(text)), ' ');
  return right ? blanks + text : text + blanks;
}

void append_line(std::string& out, const std::string& line) {
  out += line.substr(0, line.find_last_not_of(' ') + 1);
  out += '\n';
}

std::string line_of_common(const Report& report) {
  std::string line;
  for (const auto& [name, cell] : report.common().cells()) {
    const Metric* metric = find_metric(name);
    const std::string text =
        metric ? text_for_people(cell, metric->display, metric->digits) : text_for_people(cell, Display::plain, 4);
    if (!text.empty()) line += fmt::format("{}{} {}", line.empty() ? "" : ", ", name, text);
  }
  return line;
}

std::string escaped_markdown(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '|' || c == '\\') result += '\\';
    result += c;
  }
  return result;
}

}  // namespace

std::string text_for_people(const Cell& cell, Display display, int digits) {
  if (const auto* text = std::get_if<std::string>(&cell)) return printable(*text);
  if (const auto* real = std::get_if<double>(&cell)) return number_for_people(*real, display, digits);
  if (const auto* integer = std::get_if<int64_t>(&cell)) {
    if (display == Display::plain || display == Display::fixed) return fmt::format("{}", *integer);
    return display == Display::whole ? grouped(*integer)
                                     : number_for_people(static_cast<double>(*integer), display, digits);
  }
  if (const auto* list = std::get_if<std::vector<int64_t>>(&cell)) return fmt::format("{}", fmt::join(*list, " "));
  if (const auto* list = std::get_if<std::vector<double>>(&cell)) {
    std::vector<std::string> numbers;
    for (const double x : *list) numbers.push_back(number_for_people(x, display, digits));
    return fmt::format("{}", fmt::join(numbers, " "));
  }
  return {};
}

std::string print_table(const Report& report) {
  auto columns = text_columns(report);
  std::string out;
  if (!columns.empty()) {
    if (columns.size() > 2 && total_width(columns) > widest) {
      auto other = turned(columns);
      if (total_width(other) < total_width(columns)) columns = std::move(other);
    }
    if (total_width(columns) > widest)
      for (TextColumn& column : columns)
        for (std::string& cell : column.cells) cell = shortened(cell);
    std::vector<size_t> widths;
    for (const TextColumn& column : columns) widths.push_back(width_of(column));
    const auto line = [&](auto&& cell) {
      std::string text;
      for (size_t c = 0; c < columns.size(); ++c)
        text += padded(cell(columns[c]), widths[c], columns[c].right) + (c + 1 < columns.size() ? "  " : "");
      append_line(out, text);
    };
    line([](const TextColumn& column) { return column.heading; });
    for (size_t r = 0; r < columns[0].cells.size(); ++r)
      line([&](const TextColumn& column) { return column.cells[r]; });
  }
  if (const std::string common = line_of_common(report); !common.empty()) append_line(out, common);
  return out;
}

std::string print_markdown(const Report& report) {
  const auto columns = text_columns(report);
  std::string out;
  if (!columns.empty()) {
    for (const TextColumn& column : columns) out += fmt::format("| {} ", escaped_markdown(column.heading));
    out += "|\n";
    for (const TextColumn& column : columns) out += column.right ? "|---:" : "|---";
    out += "|\n";
    for (size_t r = 0; r < report.size(); ++r) {
      for (const TextColumn& column : columns) out += fmt::format("| {} ", escaped_markdown(column.cells[r]));
      out += "|\n";
    }
  }
  if (const std::string common = line_of_common(report); !common.empty())
    out += fmt::format("{}{}\n", out.empty() ? "" : "\n", escaped_markdown(common));
  return out;
}

}  // namespace hone
