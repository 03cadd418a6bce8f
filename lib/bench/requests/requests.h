// Replays of requests with several models, ways of batching and loads: each combination a row.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bench/requests/replay.h"
#include "report/report.h"

namespace hone {

struct RequestsSettings {
  std::vector<std::string> models;  // paths
  std::vector<int> thread_counts = {1};
  std::string trace;                                   // a path; empty: drawn
  std::vector<double> loads = {1};                     // of a trace how much faster it comes; else requests a second
  LengthRange prompt = {512, 512}, tokens = {64, 64};  // of those that are drawn
  int64_t divide = 1, count = 0;                       // of a trace; how many requests, 0: all
  std::vector<Batching> batching = {default_batching()};
  EngineSettings engine = {};
  kernels::ActivationRounding rounding = {};  // of the models
  Slo objective = {};
  bool simulate = false;
  std::string costs;      // with simulate: a file to read them from, or to write them to; empty: none
  std::string precision;  // what the report calls it
  uint64_t seed = 1;
};

struct RequestsResult {
  std::string model, form, batching, requests, precision;
  int threads = 1;
  double load = 1;     // as in the settings
  double offered = 0;  // requests a second, as they came
  bool simulated = false;
  double wall_seconds = 0;  // that it took here
  size_t count = 0;         // of requests
  EngineSettings engine = {};
  Slo objective = {};
  Replayed replayed = {};
};

// Throws Error(usage) for settings that make no sense or do not fit into memory, Error(input) for files that cannot be
// read and for requests of which none could run. Names those that are too long, and goes on.
std::vector<RequestsResult> bench_requests(const RequestsSettings& settings);
void check_requests(const RequestsSettings& settings);  // throws as that, and measures nothing

Report requests_report(const std::vector<RequestsResult>& results);

// Which load each way of batching holds: the highest of those up to which this part of the requests met the objective.
// In sentences; none without an objective, or of a single load.
constexpr double held_fraction = 0.9;
std::vector<std::string> held_loads(const std::vector<RequestsResult>& results);

// SVG: who waited and who ran over time, and latencies over loads where there are several.
std::string requests_plot(const std::vector<RequestsResult>& results);

}  // namespace hone
