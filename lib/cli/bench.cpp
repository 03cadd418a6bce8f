#include "cli/bench.h"

#include "base/log.h"
#include "base/stop.h"
#include "cli/bench_options.h"
#include "cli/plan_options.h"
#include "cli/ranks.h"
#include "report/late_texts.h"

namespace hone::cli {
namespace {

int run_kernels(const BenchOptions& o, const Common& common) {
  const KernelsSettings settings = o.kernels_settings(common);
  if (common.dry_run)
    check_kernels(settings);
  else
    print_result(render(bench_kernels(settings), format_named(o.format)));
  return 0;
}

int run_requests(const BenchOptions& o, const Common& common) {
  const RequestsSettings settings = o.requests_settings(common);
  if (common.dry_run) {
    check_requests(settings);
    return 0;
  }
  const std::vector<RequestsResult> results = bench_requests(settings);
  for (const std::string& line : held_loads(results)) log_info("{}", line);
  LateTexts late(o.force);
  late.write("--plot", o.plot, o.plot.empty() ? "" : requests_plot(results));
  print_result(render(requests_report(results), format_named(o.format)));
  return late.status();
}

int run_plans(const BenchOptions& o, const Common& common) {
  std::optional<Config> config;
  if (!o.models.empty()) {
    ReadOptions read;
    read.parameters = false;
    config = config_from_json(read_model_file(o.models.front(), read).config, o.models.front());
  }
  std::vector<PlanSpec> plans;
  for (const std::string& text : o.plans) plans.push_back(parse_plan(text, config ? &*config : nullptr));
  if (common.dry_run) return 0;
  measure_what_is_missing(plans, common.threads, o.refresh_ceilings);
  print_result(render(plan_report(plans), format_named(o.format)));
  return 0;
}

int run_bench(const BenchOptions& o, const Common& common) {
  const ModelRanks ranks = parallel_parts(o.replay.engine.parts, common.ranks, "bench", common.arguments);
  if (ranks && ranks.way->own_batches && o.train)
    throw usage_error("--parallel {}: ranks with {} train on batches of their own; measure --train in one process",
                      o.replay.engine.parts, ranks.way->what);
  std::optional<StopLater> together;  // none of the ranks leaves alone
  if (ranks) together.emplace();
  agree(*common.ranks, [&] { o.check(); });
  if (!o.plans.empty()) return run_plans(o, common);
  if (o.kernels) return run_kernels(o, common);
  if (o.replay.given()) return run_requests(o, common);
  BenchSettings settings = o.settings(common);
  settings.ranks = ranks;
  if (common.dry_run) {
    check_bench(settings);
    return 0;
  }
  const std::vector<BenchResult> results = bench_models(settings);
  if (common.ranks->rank() > 0) return 0;  // the first reports
  if (!o.writes() && o.parts.empty())
    for (const std::string& line : crossovers(results)) log_info("{}", line);
  if (!o.train) {
    std::string forms;
    for (const BenchResult& result : results) forms += result.form + " ";
    o.low_bit.tell_of_activations(forms);
  }
  LateTexts late(o.force);
  late.write("--plot", o.plot, o.plot.empty() ? "" : bench_plot(results));
  print_result(render(bench_report(results), format_named(o.format)));
  return late.status();
}

}  // namespace

int bench(int argc, char** argv) {
  const Tool tool = {
      .name = "bench",
      .example =
          "  bench dense.h5 small.h5 --prompt 128,512 --generate 64 --batch 1,8 --format md\n"
          "  bench dense.h5 --train --batch 32\n"
          "  bench long.h5 --prompt 4096,8192 --attention full --attention window:512 --plot time.svg\n"
          "  bench dense.h5 --draft ngram --draft small.h5 --data test.txt --generate 200\n"
          "  bench small.h5 --requests poisson:2,4,8 --prompt 64:512 --generate 16:128 --slo token=50ms --simulate\n"
          "  bench --kernels --only attention,packed\n"
          "  bench --plan ranks=64,tensor=8,layers=80,dim=8192,heads=64,batch=1024,network=12.5G\n",
      .setup = [](CLI::App& app, const Common& common) -> std::function<int()> {
        auto options = std::make_shared<BenchOptions>();
        options->add(app);
        return [options, &common] { return run_bench(*options, common); };
      },
      .many_threads = true,
      .ranks = launched_ranks,
      .exclusions = {{"--kernels", {"models", "--train", "--attention", "--plot", "--requests"}},
                     {"models", {"--kernels", "--only"}},
                     {"--train", {"--kernels", "--only", "--requests"}},
                     {"--requests", {"--kernels", "--only", "--train", "--attention", "--draft"}},
                     {"--plan", {"--kernels", "--train", "--draft", "--exit", "--requests", "--plot"}}}};
  return run_tool(tool, argc, argv);
}

}  // namespace hone::cli
