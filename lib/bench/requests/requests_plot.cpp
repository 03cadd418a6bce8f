// Pictures of replays.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/spelling.h"
#include "bench/requests/requests.h"
#include "report/plot.h"
#include "report/statistics.h"

namespace hone {
namespace {

using Replays = std::vector<RequestsResult>;

bool differ(const Replays& results, const auto& of) {
  return std::ranges::any_of(results, [&](const RequestsResult& r) { return of(r) != of(results.front()); });
}

std::string name_of(const Replays& results, const RequestsResult& r) {
  std::string name;
  const auto add = [&](const std::string& part) { name += (name.empty() ? "" : ", ") + part; };
  if (differ(results, [](const auto& x) { return x.model; })) add(r.model);
  if (differ(results, [](const auto& x) { return x.threads; })) add(counted(r.threads, "thread"));
  if (name.empty() || differ(results, [](const auto& x) { return x.batching; })) add(r.batching);
  return name;
}

bool several_loads(const Replays& results) {
  return differ(results, [](const auto& r) { return r.load; });
}

std::string load_of(const RequestsResult& r) {
  return fmt::format("{:.3g} requests/s", r.offered);
}

// What samples say over time, a line a row.
Plot over_time(const Replays& results, const char* title, double (*of)(const ReplaySample&, const RequestsResult&)) {
  Plot plot{.title = title, .x = {.label = "time (s)", .from_zero = true}, .y = {.label = title, .from_zero = true}};
  for (const RequestsResult& r : results) {
    Series series{.name = name_of(results, r)};
    if (several_loads(results)) series.name += ", " + load_of(r);
    for (const ReplaySample& sample : r.replayed.samples) {
      series.x.push_back(sample.seconds);
      series.y.push_back(of(sample, r));
    }
    plot.series.push_back(std::move(series));
  }
  return plot;
}

// A percentile of latencies over the loads, a line for each way of batching.
Plot over_load(const Replays& results, const std::string& title, double percent, double ServedRequest::*latency) {
  Plot plot{.title = fmt::format("{}, percentile {:.0f}", title, percent),
            .x = {.label = "load (requests/s)", .at_points = true},
            .y = {.label = "ms", .logarithmic = true}};
  for (const RequestsResult& r : results) {
    const std::string name = name_of(results, r);
    auto series = std::ranges::find(plot.series, name, &Series::name);
    if (series == plot.series.end()) series = plot.series.insert(series, {.name = name});
    std::vector<double> all;
    for (const ServedRequest& request : r.replayed.served) all.push_back(1e3 * request.*latency);
    series->x.push_back(r.offered);
    series->y.push_back(percentile(all, percent));
  }
  return plot;
}

}  // namespace

std::string requests_plot(const std::vector<RequestsResult>& results) {
  std::vector<Plot> plots;
  if (several_loads(results))
    for (const double percent : {50.0, 99.0}) {
      plots.push_back(over_load(results, "first token", percent, &ServedRequest::first_token));
      plots.push_back(over_load(results, "between tokens", percent, &ServedRequest::between));
      plots.push_back(over_load(results, "request", percent, &ServedRequest::done));
    }
  plots.push_back(over_time(results, "requests that wait",
                            [](const ReplaySample& s, const auto&) { return static_cast<double>(s.waiting); }));
  plots.push_back(over_time(results, "requests that run",
                            [](const ReplaySample& s, const auto&) { return static_cast<double>(s.running); }));
  plots.push_back(over_time(results, "pages in use, %", [](const ReplaySample& s, const RequestsResult& r) {
    return 100 * static_cast<double>(s.pages) / static_cast<double>(r.replayed.stats.pages);
  }));
  return render_svg(plots);
}

}  // namespace hone
