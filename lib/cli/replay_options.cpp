#include "cli/replay_options.h"

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/target.h"
#include "base/units.h"
#include "cli/ranks.h"

namespace hone::cli {
namespace {

// Rates or speeds with commas between, each above 0.
std::vector<double> loads_of(const std::string& text, const std::string& option) {
  std::vector<double> loads;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const double load = for_option(option, [&] { return parse_number(text.substr(begin, end - begin)); });
    if (load <= 0) throw usage_error("{} must be above 0, not {}", option, text.substr(begin, end - begin));
    loads.push_back(load);
    begin = end + 1;
  }
  require_each_once(option, loads);
  return loads;
}

constexpr std::string_view poisson = "poisson:";
constexpr int64_t drawn_requests = 200;

}  // namespace

LengthRange length_range(const std::string& text, CountRange range) {
  const size_t colon = text.find(':');
  const LengthRange lengths = {parse_count(text.substr(0, colon)), parse_count(text.substr(colon + 1))};
  if (lengths.low < std::max<int64_t>(range.least, 1) || lengths.high < lengths.low || lengths.high > range.most)
    throw usage_error("'{}' is no range of lengths from 1 on, such as 64:512", text);
  return lengths;
}

void ReplayOptions::add(CLI::App& app) {
  auto* group = app.add_option_group("Requests", "Many requests that come at times of their own");
  group
      ->add_option(
          "--requests", requests,
          "Replay a trace (JSON lines with timestamp, input_length, output_length, hash_ids), or requests that "
          "come at random at these rates a second: poisson:5,10")
      ->type_name("FILE|poisson:RATES");
  add_count(group, "--count", count, "Requests: the first of a trace, by default all; of poisson 200",
            {.least = 1, .most = 100'000'000});
  group->add_option("--speed", speed, "Of a trace: let it come so many times as fast; a list compares several")
      ->join(',')
      ->type_name("NUMBERS");
  add_count(group, "--divide", divide, "Of a trace: divide all lengths by this", {.least = 1, .most = 1 << 20});
  group
      ->add_option("--batching", batching,
                   fmt::format("Who is served together, {}; repeat it to compare several", batching_names()))
      ->allow_extra_args(false)
      ->type_name("POLICY")
      ->default_str(default_batching().name());
  group
      ->add_option("--slo", objective,
                   "What a request may take: first_token, token (between two, on average) and request, as in "
                   "first_token=500ms,token=50ms")
      ->type_name("TIMES");
  group->add_flag("--simulate", simulate, "Measure what steps take, then replay by these times without computing");
  group->add_option("--costs", costs, "With --simulate: read them from this file; where there is none, write it")
      ->type_name("FILE");
  engine.add(group, parallel_parts_forms(), "--requests", ", and the blocks of a trace");
  add_count(group, "--busy-chunk", busy_chunk, "Tokens of a prompt in a step beside texts that are written",
            size_range);
}

void ReplayOptions::check() const {
  if (!given()) return;
  engine.check();
  loads_of(speed, "--speed");
  if (drawn()) loads_of(requests.substr(poisson.size()), "--requests");
  if (!objective.empty()) for_option("--slo", [&] { return slo_of(objective); });
  require_each_once("--batching", batching);
  for (const std::string& name : batching)
    if (const Batching policy = for_option("--batching", [&] { return batching_named(name); });
        policy.most > engine.parallel)
      throw usage_error("--batching {} has no room in --parallel {}", name, engine.parallel);
  if (drawn() && (divide > 1 || speed != "1"))
    throw usage_error("{} is of a trace; poisson's rates and lengths are said themselves",
                      divide > 1 ? "--divide" : "--speed");
  if (!simulate || costs.empty()) return;
  // Read where it is there, else written at the end of long measurements.
  if (const Target target = resolve_target(costs); target.stream || !target.exists) require_writable(costs, false);
}

std::vector<Idle> ReplayOptions::idle() const {
  std::vector<Idle> all;
  for (const char* option : {"--count", "--speed", "--divide", "--batching", "--slo", "--simulate", "--cache-tokens",
                             "--page", "--no-reuse", "--order", "--busy-chunk"})
    all.push_back({option, !given(), "without --requests"});
  all.push_back({"--parallel", !given() && engine.parts.empty(), "without --requests"});
  all.push_back({"--costs", !simulate, "without --simulate"});
  return all;
}

RequestsSettings ReplayOptions::settings() const {
  RequestsSettings s;
  if (!drawn()) s.trace = requests;
  s.loads = loads_of(drawn() ? requests.substr(poisson.size()) : speed, "load");
  s.divide = divide;
  s.count = count.value_or(drawn() ? drawn_requests : 0);
  if (!batching.empty()) s.batching.clear();
  for (const std::string& name : batching) s.batching.push_back(batching_named(name));
  s.engine = engine.settings();
  s.engine.busy_chunk = busy_chunk;
  if (!objective.empty()) s.objective = slo_of(objective);
  s.simulate = simulate;
  s.costs = costs;
  return s;
}

}  // namespace hone::cli
