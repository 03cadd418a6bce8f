#include "report/plot.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

using namespace hone;

namespace {

using Values = std::vector<double>;
using Labels = std::vector<std::string>;

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

}  // namespace

TEST_CASE("linear ticks are round and enclose the data") {
  CHECK(axis_ticks(0, 10, 6, false) == Values{0, 2, 4, 6, 8, 10});
  CHECK(axis_ticks(0, 100, 11, false).size() == 11);
  const Values negative = axis_ticks(-0.3, 0.7, 6, false);
  CHECK(negative.front() <= -0.3);
  CHECK(negative.back() >= 0.7);
  const Values single = axis_ticks(5, 5, 6, false), zero = axis_ticks(0, 0, 6, false);
  CHECK((single.size() >= 2 && single.front() < 5 && single.back() > 5));
  CHECK((zero.size() >= 2 && zero.front() < 0 && zero.back() > 0));
  for (const double scale : {1e-12, 1.0, 3e7, 1e15})
    for (const double low : {-2.0, 0.0, 1.23}) {
      const Values ticks = axis_ticks(low * scale, (low + 1.7) * scale, 6, false);
      CHECK(ticks.size() >= 3);
      CHECK(ticks.size() <= 12);
      CHECK(ticks.front() <= low * scale + 1e-6 * scale);
      CHECK(ticks.back() >= (low + 1.7 - 1e-6) * scale);
    }
}

TEST_CASE("logarithmic ticks are powers of ten, with 2 and 5 where those are few") {
  const auto near = [](const Values& a, const Values& b) {
    if (a.size() != b.size()) return false;
    for (size_t i = 0; i < a.size(); ++i)
      if (std::abs(a[i] / b[i] - 1) > 1e-9) return false;
    return true;
  };
  CHECK(near(axis_ticks(1, 1000, 8, true), {1, 10, 100, 1000}));
  CHECK(near(axis_ticks(1.4, 5.6, 6, true), {1, 2, 3, 4, 5, 6}));
  CHECK(axis_ticks(0.1, 0.9, 3, true).front() > 0);
  CHECK(near(axis_ticks(2, 30, 6, true), {2, 5, 10, 20, 50}));
  CHECK(near(axis_ticks(128, 2048, 8, true), {100, 200, 500, 1000, 2000, 5000}));
  CHECK(axis_ticks(1e-20, 1e20, 6, true).size() <= 8);
  CHECK(axis_ticks(1e-20, 1e20, 6, true).back() >= 1e20 * (1 - 1e-6));
  CHECK(axis_ticks(10, 10, 6, true).size() >= 2);
}

TEST_CASE("labels have one precision and letters for thousands") {
  CHECK(tick_labels(Values{0, 0.5, 1, 1.5}, false) == Labels{"0", "0.5", "1.0", "1.5"});
  CHECK(tick_labels(Values{0, 10000, 20000}, false) == Labels{"0", "10k", "20k"});
  CHECK(tick_labels(Values{0, 2e6, 4e6}, false) == Labels{"0", "2M", "4M"});
  CHECK(tick_labels(Values{0, 500, 1000}, false) == Labels{"0", "500", "1000"});
  CHECK(tick_labels(Values{1.46, 1.48, 1.5}, false) == Labels{"1.46", "1.48", "1.50"});
  CHECK(tick_labels(Values{0.01, 1, 100000}, true) == Labels{"0.01", "1", "100k"});
}

TEST_CASE("a plot has its title, labels, legend and a line for each series, with text escaped") {
  Plot plot{.title = "a < b & \"c\"", .x = {.label = "step"}, .y = {.label = "loss (nats/token)"}};
  plot.series.push_back({.name = "train", .x = {0, 1, 2}, .y = {3, 2, 1}});
  plot.series.push_back({.name = "<valid>", .x = {0, 2}, .y = {3.5, 1.5}, .dashed = true});
  const std::string svg = render_svg(plot);
  CHECK(svg.find("<svg xmlns=") == 0);
  CHECK(svg.find("a &lt; b &amp; &quot;c&quot;") != std::string::npos);
  CHECK(svg.find("&lt;valid&gt;") != std::string::npos);
  CHECK(svg.find("loss (nats/token)") != std::string::npos);
  CHECK(count(svg, "stroke-width=\"1.8\"") == 2);
  CHECK(count(svg, "<circle") == 3);
  CHECK(count(svg, "stroke-dasharray") == 2);  // the line and its name
  CHECK(svg.find("nan") == std::string::npos);
  CHECK(svg.substr(svg.size() - 7) == "</svg>\n");
}

TEST_CASE("points that cannot be shown break the line and nothing else") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  Plot plot{.title = "t", .x = {.label = "x"}, .y = {.label = "y", .logarithmic = true}};
  plot.series.push_back({.name = "s", .x = {0, 1, 2, 3, 4, 5, 6, 7}, .y = {1, 2, nan, 4, 5, 0, inf, 8}});
  const std::string svg = render_svg(plot);
  CHECK(count(svg, "stroke-width=\"1.8\"") == 2);  // 0-1 and 3-4; the last stands alone
  CHECK(count(svg, "<circle") == 5);
  CHECK(svg.find("nan") == std::string::npos);
  CHECK(svg.find("inf") == std::string::npos);
}

TEST_CASE("plots of nothing, of one point, and of long series") {
  CHECK(render_svg(Plot{.title = "empty"}).find("nan") == std::string::npos);
  Plot one{.title = "one"};
  one.series.push_back({.name = "s", .x = {3}, .y = {7}});
  CHECK(count(render_svg(one), "<circle") == 1);
  CHECK(render_svg(one).find("nan") == std::string::npos);

  Plot longer{.title = "long"};
  Series series{.name = "s"};
  for (int i = 0; i < 200000; ++i) {
    series.x.push_back(i);
    series.y.push_back(i == 123456 ? 100 : std::sin(i * 0.01));
  }
  longer.series.push_back(series);
  const std::string svg = render_svg(longer);
  CHECK(svg.size() < 100000);
  // The one high point is kept: it reaches the height of the top tick.
  longer.series[0].y[123456] = 0;
  CHECK(svg != render_svg(longer));
  CHECK(count(render_svg(std::vector<Plot>{one, longer}), "<svg") == 1);
}

TEST_CASE("each line has a color of its own, however many there are") {
  Plot plot;
  for (int i = 0; i < 40; ++i) plot.series.push_back({.name = std::to_string(i), .x = {0, 1}, .y = {1.0 * i, 2.0 * i}});
  const std::string svg = render_svg(plot);
  std::set<std::string> colors;
  const std::string sign = "fill=\"none\" stroke=\"";
  for (size_t at = svg.find(sign); at != std::string::npos; at = svg.find(sign, at + 1))
    colors.insert(svg.substr(at + sign.size(), 7));
  colors.erase("#7b858e");  // the frame
  CHECK(colors.size() == 40);
  for (const std::string& color : colors) CHECK(color.find_first_not_of("#0123456789abcdef") == std::string::npos);
}

TEST_CASE("ticks stand where measurements are, unless these are too many for their labels") {
  Plot plot{.x = {.label = "prompt (tokens)", .logarithmic = true, .at_points = true}};
  plot.series.push_back({.x = {512, 1024, 2048, 4096}, .y = {1, 2, 3, 4}});
  const std::string svg = render_svg(plot);
  for (const char* label : {">512<", ">1024<", ">2048<", ">4096<"}) CHECK(count(svg, label) == 1);
  CHECK(count(svg, ">1000<") == 0);
  plot.x.at_points = false;
  CHECK(count(render_svg(plot), ">1024<") == 0);
  plot.x.at_points = true;
  plot.series[0] = {};
  for (int i = 1; i <= 100; ++i) {
    plot.series[0].x.push_back(i);
    plot.series[0].y.push_back(i);
  }
  CHECK(count(render_svg(plot), ">100<") >= 1);
  CHECK(count(render_svg(plot), ">97<") == 0);
  plot.series[0] = {.x = {512}, .y = {3}};
  CHECK(count(render_svg(plot), "<circle") == 1);
}
