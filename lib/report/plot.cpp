#include "report/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <set>
#include <utility>

#include "report/markup.h"

namespace hone {
namespace {

// Distinct in hue and in lightness, so that they differ in print and for the color-blind too.
constexpr std::array<const char*, 8> first_colors = {"#1f6fb4", "#d9582b", "#2a8c57", "#8a4fb0",
                                                     "#c2951b", "#1b9aaa", "#b0305f", "#5c6670"};
constexpr int font = 13, small_font = 12;
constexpr double margin_left = 72, margin_right = 24, margin_bottom = 56, legend_row = 20;
constexpr size_t most_with_markers = 40, most_with_wide_line = 400;

// The color of line `index`: those of the table, then hues that keep their distance (each a golden angle on), in
// another lightness from round to round.
std::string color_of(size_t index) {
  if (index < first_colors.size()) return first_colors[index];
  const auto k = static_cast<double>(index);
  const double hue = std::fmod(k * 137.50776405, 360), lightness = 0.32 + 0.08 * std::fmod(k, 4), saturation = 0.65;
  const auto channel = [&](double offset) {  // CSS Color 4, section 7.1
    const double at = std::fmod(offset + hue / 30, 12);
    const double part = saturation * std::min(lightness, 1 - lightness);
    return std::lround(255 * (lightness - part * std::max(-1.0, std::min({at - 3, 9 - at, 1.0}))));
  };
  return fmt::format("#{:02x}{:02x}{:02x}", channel(0), channel(8), channel(4));
}

struct Box {
  double left, top, right, bottom;
};

struct Scale {
  double low, high;  // ends of the axis
  double from, to;   // their pixels
  bool logarithmic;
  std::vector<double> ticks;
  std::vector<std::string> labels = {};  // of the ticks; empty: by tick_labels()

  bool shows(double v) const { return std::isfinite(v) && (!logarithmic || v > 0); }
  double operator()(double v) const {
    const auto place = [&](double x) { return logarithmic ? std::log10(x) : x; };
    return from + (place(v) - place(low)) / (place(high) - place(low)) * (to - from);
  }
};

template <class... Args>
void add(std::string& out, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
}

void text(std::string& out, double x, double y, const char* anchor, int size, const char* color,
          const std::string& words, const std::string& more = "") {
  add(out, "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" font-size=\"{}\" fill=\"{}\"{}>{}</text>\n", x, y,
      anchor, size, color, more, html_escaped(words));
}

// An axis over every value of `values` (Series::x or Series::y) that can be shown; 0 to 1 where there is none.
Scale scale_over(const Plot& plot, const Axis& axis, std::vector<double> Series::*values, double from, double to,
                 int wanted) {
  Scale scale{0, 0, from, to, axis.logarithmic, {}, {}};
  bool any = false;
  for (const Series& series : plot.series)
    for (const double v : series.*values) {
      if (!scale.shows(v)) continue;
      scale.low = any ? std::min(scale.low, v) : v;
      scale.high = any ? std::max(scale.high, v) : v;
      any = true;
    }
  if (!any) {
    scale.low = axis.logarithmic ? 0.1 : 0;
    scale.high = 1;
  }
  if (axis.from_zero && !axis.logarithmic) scale.low = std::min(scale.low, 0.0);
  scale.ticks = axis_ticks(scale.low, scale.high, wanted, axis.logarithmic);
  return scale;
}

// y reaches from tick to tick; x only as far as the data, because a curve that ends before the frame looks cut off.
void fit_to_ticks(Scale& scale, bool whole) {
  const auto inside = [&](double tick) { return tick >= scale.low && tick <= scale.high; };
  if (whole || std::count_if(scale.ticks.begin(), scale.ticks.end(), inside) < 2) {
    scale.low = scale.ticks.front();
    scale.high = scale.ticks.back();
    return;
  }
  std::erase_if(scale.ticks, [&](double tick) { return !inside(tick); });
}

// Ticks at the values that were measured, where all have room; false where they have not.
bool tick_points(Scale& scale, const Plot& plot, std::vector<double> Series::*values) {
  constexpr double room = 34;  // pixels between labels
  std::set<double> points;
  for (const Series& series : plot.series)
    for (const double v : series.*values)
      if (scale.shows(v)) points.insert(v);
  if (points.size() < 2) return false;
  scale.low = *points.begin();
  scale.high = *points.rbegin();
  double before = scale.from - 2 * room;
  for (const double v : points)
    if (std::abs(scale(v) - std::exchange(before, scale(v))) < room) return false;
  scale.ticks.assign(points.begin(), points.end());
  for (const double v : points) scale.labels.push_back(fmt::format("{:.7g}", v));
  return true;
}

void draw_grid(std::string& out, const Box& box, const Scale& x, const Scale& y) {
  const auto x_labels = x.labels.empty() ? tick_labels(x.ticks, x.logarithmic) : x.labels;
  const auto y_labels = tick_labels(y.ticks, y.logarithmic);
  for (size_t i = 0; i < y.ticks.size(); ++i) {
    const double at = y(y.ticks[i]);
    add(out, "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#e3e6e9\"/>\n", box.left, at,
        box.right, at);
    text(out, box.left - 8, at + 4, "end", small_font, "#4a525a", y_labels[i]);
  }
  for (size_t i = 0; i < x.ticks.size(); ++i) {
    const double at = x(x.ticks[i]);
    add(out, "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#e3e6e9\"/>\n", at, box.top, at,
        box.bottom);
    text(out, at, box.bottom + 18, "middle", small_font, "#4a525a", x_labels[i]);
  }
  add(out, "<path d=\"M{:.1f} {:.1f}V{:.1f}H{:.1f}\" fill=\"none\" stroke=\"#7b858e\"/>\n", box.left, box.top,
      box.bottom, box.right);
}

struct Point {
  double x, y;
};

// Of consecutive points in one pixel column, the first, the lowest, the highest and the last, in their order.
std::vector<Point> thinned(const std::vector<Point>& points) {
  std::vector<Point> result;
  for (size_t start = 0; start < points.size();) {
    size_t stop = start, low = start, high = start;
    for (; stop < points.size() && std::floor(points[stop].x) == std::floor(points[start].x); ++stop) {
      if (points[stop].y < points[low].y) low = stop;
      if (points[stop].y > points[high].y) high = stop;
    }
    std::array<size_t, 4> kept = {start, low, high, stop - 1};
    std::sort(kept.begin(), kept.end());
    for (size_t i = 0; i < kept.size(); ++i)
      if (i == 0 || kept[i] != kept[i - 1]) result.push_back(points[kept[i]]);
    start = stop;
  }
  return result;
}

void draw_line(std::string& out, const std::vector<Point>& points, const std::string& color, bool dashed,
               bool markers) {
  if (points.size() > 1) {
    add(out, "<path d=\"");
    char command = 'M';
    for (const Point& point : thinned(points)) {
      add(out, "{}{:.1f} {:.1f}", command, point.x, point.y);
      command = 'L';
    }
    add(out, "\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" stroke-linejoin=\"round\"{}/>\n", color,
        points.size() > most_with_wide_line ? "1.1" : "1.8", dashed ? " stroke-dasharray=\"6 4\"" : "");
  }
  if (!markers && points.size() > 1) return;
  for (const Point& point : points)
    add(out, "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.2\" fill=\"{}\" stroke=\"#ffffff\"/>\n", point.x, point.y,
        color);
}

void draw_series(std::string& out, const Series& series, const std::string& color, const Scale& x, const Scale& y) {
  const size_t count = std::min(series.x.size(), series.y.size());
  const bool markers = count <= most_with_markers && !series.dashed;
  std::vector<Point> run;  // of points between breaks
  for (size_t i = 0; i < count; ++i) {
    if (x.shows(series.x[i]) && y.shows(series.y[i])) {
      run.push_back({x(series.x[i]), y(series.y[i])});
      continue;
    }
    draw_line(out, run, color, series.dashed, markers);
    run.clear();
  }
  draw_line(out, run, color, series.dashed, markers);
}

double legend_width(const Series& series) {
  const auto characters =
      std::count_if(series.name.begin(), series.name.end(), [](char c) { return (c & 0xc0) != 0x80; });
  return 52 + 6.4 * static_cast<double>(characters);
}

// Rows of names under the title, as many as the width needs; draws them unless `out` is null. Returns the height.
double legend(std::string* out, const Plot& plot, double left, double right, double top) {
  double x = left, y = top;
  bool any = false;
  for (size_t i = 0; i < plot.series.size(); ++i) {
    const Series& series = plot.series[i];
    if (series.name.empty()) continue;
    if (x > left && x + legend_width(series) > right) {
      x = left;
      y += legend_row;
    }
    if (out) {
      add(*out,
          "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" stroke-width=\"2.4\"{}/>\n", x,
          y - 4, x + 22, y - 4, color_of(i), series.dashed ? " stroke-dasharray=\"6 4\"" : "");
      text(*out, x + 28, y, "start", small_font, "#2b3238", series.name);
    }
    x += legend_width(series);
    any = true;
  }
  return any ? y - top + legend_row : 0;
}

void draw(std::string& out, const Plot& plot, double top) {
  const double right = plot.width - margin_right, title = top + 28;
  text(out, margin_left, title, "start", font + 2, "#1c2126", plot.title, " font-weight=\"600\"");
  const double names = legend(&out, plot, margin_left, right, title + 22);
  const Box box{margin_left, title + 16 + names, right, top + plot.height - margin_bottom};
  Scale x = scale_over(plot, plot.x, &Series::x, box.left, box.right, 8);
  Scale y = scale_over(plot, plot.y, &Series::y, box.bottom, box.top, 6);
  if (!plot.x.at_points || !tick_points(x, plot, &Series::x)) fit_to_ticks(x, false);
  fit_to_ticks(y, true);
  draw_grid(out, box, x, y);
  for (size_t i = 0; i < plot.series.size(); ++i) draw_series(out, plot.series[i], color_of(i), x, y);
  text(out, (box.left + box.right) / 2, box.bottom + 42, "middle", font, "#2b3238", plot.x.label);
  const double middle = (box.top + box.bottom) / 2;
  text(out, 18, middle, "middle", font, "#2b3238", plot.y.label,
       fmt::format(" transform=\"rotate(-90 18 {:.1f})\"", middle));
}

}  // namespace

std::string render_svg(std::span<const Plot> plots) {
  int width = 0, height = 0;
  for (const Plot& plot : plots) {
    width = std::max(width, plot.width);
    height += plot.height;
  }
  std::string out;
  add(out,
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
      "font-family=\"Helvetica, Arial, 'Liberation Sans', sans-serif\">\n<rect width=\"{0}\" height=\"{1}\" "
      "fill=\"#ffffff\"/>\n",
      width, height);
  double top = 0;
  for (const Plot& plot : plots) {
    draw(out, plot, top);
    top += plot.height;
  }
  out += "</svg>\n";
  return out;
}

}  // namespace hone
