#include "cli/bench.h"

#include "base/log.h"
#include "cli/bench_options.h"
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

int run(const BenchOptions& o, const Common& common) {
  o.check();
  if (o.kernels) return run_kernels(o, common);
  const BenchSettings settings = o.settings(common);
  if (common.dry_run) {
    check_bench(settings);
    return 0;
  }
  const std::vector<BenchResult> results = bench_models(settings);
  if (settings.drafts.empty())
    for (const std::string& line : crossovers(results)) log_info("{}", line);
  if (!o.train) {
    std::string forms;
    for (const BenchResult& result : results) forms += result.form + " ";
    o.low_bit.warn_of_idle_activations(forms);
  }
  LateTexts late(o.force);
  late.write("--plot", o.plot, o.plot.empty() ? "" : bench_plot(results));
  print_result(render(bench_report(results), format_named(o.format)));
  return late.status();
}

}  // namespace

int bench(int argc, char** argv) {
  const Tool tool = {.name = "bench",
                     .example =
                         "  bench dense.h5 small.h5 --prompt 128,512 --generate 64 --batch 1,8 --format md\n"
                         "  bench dense.h5 --train --batch 32\n"
                         "  bench long.h5 --prompt 4096,8192 --attention full --attention window:512 --plot time.svg\n"
                         "  bench dense.h5 --draft ngram --draft small.h5 --data test.txt --generate 200\n"
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
