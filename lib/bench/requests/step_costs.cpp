#include "bench/requests/step_costs.h"

#include <algorithm>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/json.h"

namespace hone {
namespace {

using nlohmann::json;

constexpr int schema = 4;

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

bool rising(const std::vector<int64_t>& grid) {
  return !grid.empty() && grid.front() >= 0 &&
         std::adjacent_find(grid.begin(), grid.end(), std::greater_equal<>()) == grid.end();
}

// Times and factors that something may have taken: sums of them stay finite.
bool plausible(const std::vector<double>& values) {
  return std::ranges::all_of(values, [](double x) { return x >= 0 && x < 1e9; });
}

bool whole(const CostTable& t) {
  return rising(t.down) && rising(t.across) && t.seconds.size() == t.down.size() * t.across.size() &&
         plausible(t.seconds);
}

nlohmann::ordered_json json_of(const CostTable& t) {
  return {{"down", t.down}, {"across", t.across}, {"seconds", t.seconds}};
}

CostTable table_of(const json& object) {
  CostTable t;
  object.at("down").get_to(t.down);
  object.at("across").get_to(t.across);
  object.at("seconds").get_to(t.seconds);
  return t;
}

}  // namespace

double CostTable::operator()(int64_t x, int64_t y) const {
  const GridPlace r = place_of(down, x), c = place_of(across, y);
  const auto along = [&](size_t row) {
    const double* const values = seconds.data() + row * across.size();
    return c.fraction == 0 ? values[c.index] : between(values[c.index], values[c.index + 1], c.fraction);
  };
  return r.fraction == 0 ? along(r.index) : between(along(r.index), along(r.index + 1), r.fraction);
}

double StepCosts::operator()(const Shape& shape) const {
  const Steps& steps = behind[shape.behind_piece];
  const auto texts = static_cast<int64_t>(shape.contexts.size());
  // Each text has its share of a step of texts like it.
  double written = 0;
  for (const int64_t context : shape.contexts) written += steps.write(texts, context) / static_cast<double>(texts);
  if (shape.chunk == 0) return std::max(written, 0.0);
  const double more = texts > 0 ? written - steps.write(texts, 0) : 0;
  const double woken = shape.behind_wait ? after_wait(0, shape.chunk) : 0;
  return std::max(steps.piece(texts, shape.chunk) + more + piece_more(shape.first, shape.chunk) + woken, 0.0);
}

nlohmann::ordered_json json_of(const StepCosts& costs) {
  const auto steps = [](const StepCosts::Steps& of) {
    return nlohmann::ordered_json{{"write", json_of(of.write)}, {"piece", json_of(of.piece)}};
  };
  return {{"schema_version", schema},
          {"of", costs.of},
          {"behind_write", steps(costs.behind[0])},
          {"behind_piece", steps(costs.behind[1])},
          {"piece_more", json_of(costs.piece_more)},
          {"after_wait", json_of(costs.after_wait)},
          {"spread", costs.spread},
          {"piece_spread", costs.piece_spread}};
}

StepCosts read_step_costs(const std::string& path, const json& of) {
  const json object = require_json(read_text_file(path), fmt::format("'{}'", path));
  StepCosts costs;
  try {
    if (object.at("schema_version") != schema)
      throw input_error("'{}' has costs of another version; remove it to measure anew", path);
    costs.of = object.at("of");
    for (const bool piece : {false, true}) {
      const json& steps = object.at(piece ? "behind_piece" : "behind_write");
      costs.behind[piece] = {table_of(steps.at("write")), table_of(steps.at("piece"))};
    }
    costs.piece_more = table_of(object.at("piece_more"));
    costs.after_wait = table_of(object.at("after_wait"));
    object.at("spread").get_to(costs.spread);
    object.at("piece_spread").get_to(costs.piece_spread);
  } catch (const json::exception&) {
    throw input_error("'{}' has no costs of steps, as bench writes them", path);
  }
  const auto steps_whole = [](const StepCosts::Steps& steps) { return whole(steps.write) && whole(steps.piece); };
  if (!std::ranges::all_of(costs.behind, steps_whole) || !whole(costs.piece_more) || !whole(costs.after_wait) ||
      !plausible(costs.spread) || !plausible(costs.piece_spread) || !costs.of.is_object())
    throw input_error("'{}': its costs of steps are damaged", path);
  for (const auto& [name, value] : of.items())
    if (costs.of.value(name, json()) != value)
      throw input_error("'{}' has costs of another {} ({}, not {}); give another file, or remove it to measure anew",
                        path, name, costs.of.value(name, json()).dump(), value.dump());
  return costs;
}

}  // namespace hone
