// Tables and sentences of replays.
#include <algorithm>
#include <cmath>
#include <map>

#include "base/spelling.h"
#include "bench/requests/requests.h"
#include "bench/result.h"
#include "report/statistics.h"

namespace hone {
namespace {

double per(double amount, double of) {
  return of > 0 ? amount / of : 0;
}

void set_percentiles(Row& row, const std::string& name, const std::vector<double>& seconds) {
  for (const int percent : {50, 95, 99})
    row.set(fmt::format("{}_ms_p{}", name, percent), 1e3 * percentile(seconds, percent));
}

// Means over time and the most of what samples say.
void set_load(Row& row, const Replayed& r, const EngineSettings& engine) {
  double length = 0, waiting = 0, running = 0, used = 0, in_pages = 0, of_pages = 0;
  int64_t most_waiting = 0, most_running = 0, most_pages = 0;
  for (const ReplaySample& sample : r.samples) {
    length += sample.length;
    waiting += sample.length * static_cast<double>(sample.waiting);
    running += sample.length * static_cast<double>(sample.running);
    used += sample.length * static_cast<double>(sample.pages);
    in_pages += sample.length * static_cast<double>(sample.page_tokens);
    of_pages += sample.length * static_cast<double>(sample.pages * engine.page_rows);
    most_waiting = std::max(most_waiting, sample.waiting);
    most_running = std::max(most_running, sample.running);
    most_pages = std::max(most_pages, sample.pages);
  }
  const auto pages = static_cast<double>(r.stats.pages);
  row.set("queue_mean", per(waiting, length)).set("queue_max", most_waiting);
  row.set("running_mean", per(running, length)).set("running_max", most_running);
  row.set("busy_fraction", per(length, r.seconds));
  row.set("cached_fraction", per(static_cast<double>(r.stats.cached_tokens), static_cast<double>(r.prompt_tokens)));
  row.set("pages_used_mean", per(per(used, length), pages))
      .set("pages_used_max", per(static_cast<double>(most_pages), pages));
  row.set("page_utilization", per(in_pages, of_pages)).set("preemptions", r.stats.preemptions);
}

Row row_of(const RequestsResult& result) {
  const Replayed& r = result.replayed;
  Row row;
  row.set("model", result.model).set("form", result.form).set("batching", result.batching);
  row.set("order", result.engine.order->name);
  row.set("requests", result.requests).set("load", result.load);
  row.set("offered_requests_per_second", result.offered);
  row.set("served", r.served.size()).set("too_long", r.too_long.size()).set("failed", r.failed);
  row.set("seconds", r.seconds);
  row.set("requests_per_second", per(static_cast<double>(r.served.size()), r.seconds));
  row.set("written_tokens_per_second", per(static_cast<double>(r.written), r.seconds));
  if (result.objective.any()) {
    row.set("goodput_requests_per_second", per(static_cast<double>(r.met), r.seconds));
    row.set("met_fraction", per(static_cast<double>(r.met), static_cast<double>(r.served.size() + r.failed)));
  }
  std::vector<double> began, first, done;
  for (const ServedRequest& request : r.served) {
    began.push_back(request.began);
    first.push_back(request.first_token);
    done.push_back(request.done);
  }
  set_percentiles(row, "queue", began);
  set_percentiles(row, "first_token", first);
  set_percentiles(row, "token", r.gaps);
  set_percentiles(row, "request", done);
  set_load(row, r, result.engine);
  row.set("prompt_tokens", r.prompt_tokens).set("read_tokens", r.stats.prompt_tokens).set("steps", r.stats.steps);
  if (!result.simulated) {
    const double step = r.stats.model_seconds + r.stats.own_seconds;
    row.set("engine_fraction", per(r.stats.own_seconds, step));
    row.set("choice_fraction", per(r.stats.choice_seconds, step));
  }
  row.set("simulated", result.simulated ? "yes" : "no");
  row.set("wall_seconds", result.wall_seconds);
  row.set("precision", result.precision)
      .set("threads", result.threads)
      .set("reuse", result.engine.reuse ? "yes" : "no");
  row.set("parallel", result.engine.parallel).set("cache_tokens", result.engine.cache_tokens);
  row.set("page", result.engine.page_rows);
  return row;
}

// Of CSV: the same with and without an objective, measured or simulated.
std::vector<std::string> columns() {
  std::vector<std::string> names = {"model",
                                    "form",
                                    "batching",
                                    "order",
                                    "requests",
                                    "load",
                                    "offered_requests_per_second",
                                    "served",
                                    "too_long",
                                    "failed",
                                    "seconds",
                                    "requests_per_second",
                                    "written_tokens_per_second",
                                    "goodput_requests_per_second",
                                    "met_fraction"};
  for (const char* time : {"queue", "first_token", "token", "request"})
    for (const int percent : {50, 95, 99}) names.push_back(fmt::format("{}_ms_p{}", time, percent));
  for (const char* name : {"queue_mean",
                           "queue_max",
                           "running_mean",
                           "running_max",
                           "busy_fraction",
                           "cached_fraction",
                           "pages_used_mean",
                           "pages_used_max",
                           "page_utilization",
                           "preemptions",
                           "prompt_tokens",
                           "read_tokens",
                           "steps",
                           "engine_fraction",
                           "choice_fraction",
                           "simulated",
                           "wall_seconds",
                           "precision",
                           "threads",
                           "reuse",
                           "parallel",
                           "cache_tokens",
                           "page",
                           "cpu",
                           "cores",
                           "isa"})
    names.emplace_back(name);
  return names;
}

}  // namespace

Report requests_report(const std::vector<RequestsResult>& results) {
  std::vector<Row> rows;
  for (const RequestsResult& result : results) rows.push_back(row_of(result));
  Report report = report_of(rows, {"requests", "precision", "threads", "reuse", "simulated", "cache_tokens", "page",
                                   "parallel", "prompt_tokens"});
  for (const Report::Column& column : std::vector<Report::Column>(report.columns())) {
    if (column.name.ends_with("_fraction") || column.name.starts_with("pages_used") ||
        column.name == "page_utilization")
      report.show(column.name, Display::fraction, 1);
    if (column.name.find("_ms_") != std::string::npos || column.name.ends_with("_per_second") ||
        column.name.ends_with("seconds") || column.name.ends_with("_mean"))
      report.show(column.name, Display::plain, 3);
    if (column.name.starts_with("pages_used")) report.show(column.name, Display::fraction, 1);
  }
  for (const char* name :
       {"queue_ms_p50", "queue_ms_p95", "queue_ms_p99", "read_tokens", "steps", "wall_seconds", "load"})
    report.show_detail(name);
  report.fix_csv(columns());
  return report;
}

std::vector<std::string> held_loads(const std::vector<RequestsResult>& results) {
  // By what tells rows apart but for their load, in their order.
  std::vector<std::pair<std::string, std::vector<const RequestsResult*>>> groups;
  for (const RequestsResult& r : results) {
    if (!r.objective.any()) return {};
    const std::string name = fmt::format("{}, {}, {}", r.model, r.batching, counted(r.threads, "thread"));
    const auto found = std::ranges::find(groups, name, &decltype(groups)::value_type::first);
    (found == groups.end() ? groups.emplace_back(name, std::vector<const RequestsResult*>()) : *found)
        .second.push_back(&r);
  }
  std::vector<std::string> lines;
  for (auto& [name, rows] : groups) {
    if (rows.size() < 2) return {};
    std::ranges::sort(rows, {}, &RequestsResult::offered);
    double held = 0;
    for (const RequestsResult* r : rows) {
      const double met = per(static_cast<double>(r->replayed.met),
                             static_cast<double>(r->replayed.served.size()) + static_cast<double>(r->replayed.failed));
      if (met < held_fraction) break;
      held = r->offered;
    }
    lines.push_back(held > 0 ? fmt::format("{}: the objective is met by {:.0f}% of the requests up to {:.3g} a second",
                                           name, 100 * held_fraction, held)
                             : fmt::format("{}: the objective is met by {:.0f}% of the requests at none of the loads",
                                           name, 100 * held_fraction));
  }
  return lines;
}

}  // namespace hone
