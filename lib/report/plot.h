// Line charts as SVG text: losses over steps, speeds over prompt lengths.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace hone {

struct Series {
  std::string name = {};
  // Equally many. A point that is not finite, or not positive on a logarithmic axis, breaks the line.
  std::vector<double> x = {}, y = {};
  bool dashed = false;  // for references and ceilings
};

struct Axis {
  std::string label = {};  // with its unit: "loss (nats/token)"
  bool logarithmic = false;
  bool from_zero = false;  // a linear axis that starts at 0, for speeds and sizes
  bool at_points = false;  // ticks at the values themselves, where they are few: for settings that were measured
};

struct Plot {
  std::string title = {};
  Axis x = {}, y = {};
  std::vector<Series> series = {};
  int width = 760, height = 380;  // pixels
};

// One picture with the plots below each other. Long series are thinned to what the width can show, keeping each pixel
// column's first, last, lowest and highest point. Text is escaped. The same in every locale.
std::string render_svg(std::span<const Plot> plots);
inline std::string render_svg(const Plot& plot) {
  return render_svg(std::span(&plot, 1));
}

// Where an axis from `low` to `high` has its ticks: multiples of 1, 2 or 5 times a power of ten, about `wanted` of
// them, the first at or below `low` and the last at or above `high`. On a logarithmic axis (low > 0) powers of ten,
// with 2 and 5 between where they are few, and below a factor of ten the round numbers of a linear axis. low <= high,
// both finite.
std::vector<double> axis_ticks(double low, double high, int wanted, bool logarithmic);

// Labels of equal precision for ticks: "0.5", "1.0", "1.5"; "10k", "20k".
std::vector<std::string> tick_labels(std::span<const double> ticks, bool logarithmic);

}  // namespace hone
