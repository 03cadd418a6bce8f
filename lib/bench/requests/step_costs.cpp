#include "bench/requests/step_costs.h"

#include <algorithm>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/json.h"

namespace hone {
namespace {

using nlohmann::json;

constexpr int schema = 3;

// Between which two places of a grid `x` stands, and how far behind the first: 1.5 is beyond the second.
struct GridPlace {
  size_t index = 0;
  double fraction = 0;
};

GridPlace place_of(const std::vector<int64_t>& grid, int64_t x) {
  if (grid.size() < 2) return {};
  const auto above = std::upper_bound(grid.begin() + 1, grid.end() - 1, x);
  const auto index = static_cast<size_t>(above - grid.begin()) - 1;
  return {index, static_cast<double>(x - grid[index]) / static_cast<double>(grid[index + 1] - grid[index])};
}

double between(double a, double b, double fraction) {
  return a + fraction * (b - a);
}

double on_line(const std::vector<int64_t>& grid, const std::vector<double>& values, int64_t x) {
  const GridPlace place = place_of(grid, std::max(x, grid.front()));
  return grid.size() < 2 ? values.front() : between(values[place.index], values[place.index + 1], place.fraction);
}

// Of values [down, across].
double on_plane(const std::vector<int64_t>& down, const std::vector<int64_t>& across, const std::vector<double>& values,
                int64_t x, int64_t y) {
  const GridPlace r = place_of(down, std::max(x, down.front())), c = place_of(across, y);
  const auto at = [&](size_t row, size_t column) { return values[row * across.size() + column]; };
  const auto along = [&](size_t row) { return between(at(row, c.index), at(row, c.index + 1), c.fraction); };
  return down.size() < 2 ? along(0) : between(along(r.index), along(r.index + 1), r.fraction);
}

bool rising(const std::vector<int64_t>& grid) {
  return !grid.empty() && grid.front() >= 0 &&
         std::adjacent_find(grid.begin(), grid.end(), std::greater_equal<>()) == grid.end();
}

// Times and factors that something may have taken: sums of them stay finite.
bool plausible(const std::vector<double>& values) {
  return std::ranges::all_of(values, [](double x) { return x >= 0 && x < 1e9; });
}

}  // namespace

double StepCosts::operator()(const Shape& shape) const {
  double total = on_plane(rows, chunks, seconds, static_cast<int64_t>(shape.contexts.size()), shape.chunk);
  for (const int64_t context : shape.contexts) total += on_line(contexts, row_more, context);
  if (shape.chunk > 0) total += on_plane(contexts, pieces, piece_more, shape.first, shape.chunk);
  return std::max(total, 0.0);
}

nlohmann::ordered_json json_of(const StepCosts& costs) {
  return {{"schema_version", schema},       {"of", costs.of},           {"rows", costs.rows},
          {"chunks", costs.chunks},         {"seconds", costs.seconds}, {"contexts", costs.contexts},
          {"row_more", costs.row_more},     {"pieces", costs.pieces},   {"piece_more", costs.piece_more},
          {"after_wait", costs.after_wait}, {"spread", costs.spread},   {"piece_spread", costs.piece_spread}};
}

StepCosts read_step_costs(const std::string& path, const json& of) {
  const json object = require_json(read_text_file(path), fmt::format("'{}'", path));
  StepCosts costs;
  try {
    if (object.at("schema_version") != schema)
      throw input_error("'{}' has costs of another version; remove it to measure anew", path);
    costs.of = object.at("of");
    object.at("rows").get_to(costs.rows);
    object.at("chunks").get_to(costs.chunks);
    object.at("seconds").get_to(costs.seconds);
    object.at("contexts").get_to(costs.contexts);
    object.at("row_more").get_to(costs.row_more);
    object.at("pieces").get_to(costs.pieces);
    object.at("piece_more").get_to(costs.piece_more);
    object.at("after_wait").get_to(costs.after_wait);
    object.at("spread").get_to(costs.spread);
    object.at("piece_spread").get_to(costs.piece_spread);
  } catch (const json::exception&) {
    throw input_error("'{}' has no costs of steps, as bench writes them", path);
  }
  const auto grid = [](const std::vector<int64_t>& places) { return rising(places) && places.size() > 1; };
  if (!grid(costs.rows) || !grid(costs.chunks) || !grid(costs.pieces) || !rising(costs.contexts) ||
      costs.seconds.size() != costs.rows.size() * costs.chunks.size() ||
      costs.row_more.size() != costs.contexts.size() ||
      costs.piece_more.size() != costs.contexts.size() * costs.pieces.size() || !plausible(costs.seconds) ||
      !plausible(costs.row_more) || !plausible(costs.piece_more) || !plausible(costs.spread) ||
      !plausible(costs.piece_spread) || !plausible({costs.after_wait}) || !costs.of.is_object())
    throw input_error("'{}': its costs of steps are damaged", path);
  for (const auto& [name, value] : of.items())
    if (costs.of.value(name, json()) != value)
      throw input_error("'{}' has costs of another {} ({}, not {}); give another file, or remove it to measure anew",
                        path, name, costs.of.value(name, json()).dump(), value.dump());
  return costs;
}

}  // namespace hone
