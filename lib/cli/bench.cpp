#include "cli/bench.h"

#include "base/error.h"
#include "base/log.h"
#include "cli/bench_models.h"
#include "cli/late_texts.h"
#include "cli/report_columns.h"

namespace hone::cli {
namespace {

int run(const BenchOptions& options, const Common& common) {
  options.check();
  const Format format = format_named(options.format);
  if (options.kernels) {
    const Report report = bench_kernels(options, common);
    if (!common.dry_run) print_result(render(report, format));
    return 0;
  }
  const std::vector<Row> rows = bench_models(options, common);
  if (common.dry_run) return 0;
  for (const std::string& line : crossovers(rows)) log_info("{}", line);
  LateTexts late(options.force);
  late.write("--plot", options.plot, options.plot.empty() ? "" : bench_plot(rows));
  Report report = report_of(rows, {"attention", "batch", "threads", "prompt", "context", "generate", "steps",
                                   "precision", "repeat", "ceiling_read_bytes_per_second", "ceiling_flops_per_second"});
  report.fix_csv(bench_columns());
  print_result(render(report, format));
  return late.status();
}

}  // namespace

int bench(int argc, char** argv) {
  const Tool tool = {.name = "bench",
                     .summary = "Measures the speed of models, and how near it comes to what this machine can do.",
                     .example =
                         "  bench dense.h5 small.h5 --prompt 128,512 --generate 64 --batch 1,8 --format md\n"
                         "  bench dense.h5 --train --batch 32\n"
                         "  bench long.h5 --prompt 4096,8192 --attention full --attention window:512 --plot time.svg\n"
                         "  bench --kernels --only attention,packed\n",
                     .setup = [](CLI::App& app, const Common& common) -> std::function<int()> {
                       auto options = std::make_shared<BenchOptions>();
                       options->add(app);
                       return [options, &common] { return run(*options, common); };
                     },
                     .many_threads = true,
                     .exclusions = {{"--kernels", {"models", "--train", "--attention", "--plot"}},
                                    {"models", {"--kernels", "--only"}},
                                    {"--train", {"--kernels", "--only"}}}};
  return run_tool(tool, argc, argv);
}

}  // namespace hone::cli
