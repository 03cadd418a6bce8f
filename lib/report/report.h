// Results as rows of named cells, printed as a table for people or as JSON, JSON lines, CSV or Markdown.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "report/metric.h"
#include "report/scores.h"

namespace hone {

// monostate: missing. A number that is not finite is nan, inf or -inf but in JSON, which has no such numbers: null. A
// list is an array in JSON, and
// numbers with spaces between them elsewhere.
using Cell = std::variant<std::monostate, std::string, int64_t, double, std::vector<double>, std::vector<int64_t>>;

// Named cells in the order in which they were first set.
class Row {
 public:
  // Replaces a cell of the same name. Whole numbers become int64_t, other numbers double, text string. A truth value is
  // refused: say in words what it means.
  template <class T>
  Row& set(std::string_view name, const T& value) {
    static_assert(!std::is_same_v<T, bool>);
    if constexpr (std::is_integral_v<T>)
      return set_cell(name, static_cast<int64_t>(value));
    else if constexpr (std::is_floating_point_v<T>)
      return set_cell(name, static_cast<double>(value));
    else if constexpr (std::is_same_v<T, Cell>)
      return set_cell(name, value);
    else
      return set_cell(name, std::string(value));
  }
  // NAME_difference, NAME_ratio and their _low and _high for each metric of the comparison; kl and top1_agreement with
  // theirs.
  Row& set_comparison(const Comparison& comparison);

  const std::vector<std::pair<std::string, Cell>>& cells() const { return cells_; }

 private:
  Row& set_cell(std::string_view name, Cell value);

  std::vector<std::pair<std::string, Cell>> cells_;
};

void add_comparison(MetricValues& values, const Comparison& comparison);  // the same names

class Report {
 public:
  struct Column {
    std::string name;  // the key in JSON and CSV, and the heading
    Display display = Display::plain;
    int digits = 4;
    bool detail = false;  // left out of table and md, which are for people
  };

  // Columns stand in the order in which the report first sees their names; a row without one has a missing cell there.
  void add(const Row& row);
  size_t size() const { return rows_.size(); }

  // Cells of every row: JSON lines, CSV and the rows of JSON repeat them as their last columns, table and md print them
  // once below.
  Row& common() { return common_; }
  const Row& common() const { return common_; }

  // How a column is shown. By default as its metric is (metric.h); the ends of a comparison's intervals are details.
  void show(std::string_view name, Display display, int digits);
  void show_detail(std::string_view name);  // JSON and CSV only

  // The columns of CSV, in this order, whether a row has them or not; others follow as usual, but not those of one
  // layer each (NAME_0, NAME_1, …), of which no two models have the same.
  void fix_csv(std::vector<std::string> names) { csv_ = std::move(names); }
  const std::vector<std::string>& csv() const { return csv_; }

  const std::vector<Column>& columns() const { return columns_; }
  const Cell& cell(size_t row, size_t column) const;

 private:
  size_t column_at(std::string_view name);  // made if it is new

  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;  // by column; a row may be shorter than the columns
  Row common_;
  std::vector<std::string> csv_;  // empty: as JSON lines
};

enum class Format { table, json, jsonl, csv, md };

Format format_named(std::string_view name);  // Error(usage) lists the formats
std::string format_list();                   // "table, json, jsonl, csv or md", for help texts

constexpr int report_schema_version = 1;

// Text that ends in a newline; the same in every locale.
// - table: aligned, units for people; one wider than 120 characters is turned: a line a column, a column a row.
// - json: {"schema_version", "version", "rows": [...]}, each row with every column, null where a cell is missing.
// - jsonl: a row on a line, with schema_version first and version last.
// - csv: RFC 4180 with a line of names, lines ended by \n; the columns of jsonl, or those of fix_csv().
// - md: a GitHub table with the cells of the table.
std::string render(const Report& report, Format format);

}  // namespace hone
