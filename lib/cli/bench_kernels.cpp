// Single kernels at each instruction set.
#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "base/cpu.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/bench_models.h"
#include "cli/report_columns.h"
#include "measure/ceilings_cache.h"
#include "measure/kernel_bench.h"
#include "report/statistics.h"

namespace hone::cli {
namespace {

std::vector<KernelEntry> chosen(const std::string& only) {
  std::vector<KernelEntry> entries;
  std::vector<std::string> parts;
  std::istringstream list(only);
  for (std::string part; std::getline(list, part, ',');) parts.push_back(part);
  std::set<std::string> firsts;  // words of the names: all of them are too many for a line
  for (const KernelEntry& entry : kernel_entries()) {
    const std::string name = entry.name;
    firsts.insert(name.substr(0, name.find('_')));
    if (parts.empty() ||
        std::any_of(parts.begin(), parts.end(), [&](const auto& part) { return name.find(part) != std::string::npos; }))
      entries.push_back(entry);
  }
  if (entries.empty())
    throw usage_error("--only {}: no kernel's name contains it; they begin with {}", only, fmt::join(firsts, ", "));
  return entries;
}

std::vector<Isa> levels_up_to(Isa highest) {
  std::vector<Isa> levels;
  for (const Isa level : isa_levels())
    if (level <= highest) levels.push_back(level);
  return levels;
}

// Read bandwidth is the machine's; the matrix peak is that of each instruction set.
std::map<Isa, kernels::Ceilings> ceilings_by_level(const std::vector<Isa>& levels, int threads, bool refresh) {
  std::map<Isa, kernels::Ceilings> result;
  const Isa highest = isa();
  const kernels::Ceilings machine = machine_ceilings(threads, refresh, product_rate);
  for (const Isa level : levels) {
    result[level] = machine;
    if (level == highest) continue;
    set_isa(level);
    result[level].f32_flops_per_second = kernels::measure_flops(DType::f32, threads, 0.1);
    result[level].bf16_flops_per_second = kernels::measure_flops(DType::bf16, threads, 0.1);
  }
  set_isa(highest);
  return result;
}

Row row_of(const KernelEntry& entry, const KernelResult& result, size_t level, const kernels::Ceilings& ceilings) {
  const double microseconds = 1e6 * median(result.levels[level].seconds);
  const double reference = 1e6 * median(result.levels.front().seconds);
  const Bound bound = bound_of(result.flops, result.bytes, result.type, ceilings);
  const double amount = bound.name == std::string_view("matrix") ? result.flops : result.bytes;
  Row row;
  row.set("kernel", entry.name).set("shape", entry.shape).set("isa", name_of(result.levels[level].isa));
  row.set("microseconds", microseconds);
  row.set("microseconds_spread", 1e6 * median_absolute_deviation(result.levels[level].seconds));
  row.set("portable_microseconds", reference).set("speedup", reference / microseconds);
  row.set("ceiling", bound.name);
  row.set("giga_per_second", 1e-3 * amount / microseconds).set("giga_ceiling", 1e-9 * amount / bound.seconds);
  row.set("fraction", 1e6 * bound.seconds / microseconds);
  const std::vector<double>& dense = result.levels[level].dense_seconds;
  if (!dense.empty()) row.set("of_dense", 1e6 * median(dense) / microseconds);
  return row;
}

}  // namespace

Report bench_kernels(const BenchOptions& options, const Common& common) {
  const std::vector<KernelEntry> entries = chosen(options.only);
  const std::vector<Isa> levels = levels_up_to(isa());
  std::vector<Isa> library_levels = {levels.front()};
  if (levels.size() > 1) library_levels.push_back(levels.back());
  std::vector<Row> rows;
  Progress progress;
  for (const int threads : common.thread_counts) {
    if (common.dry_run) break;
    const auto ceilings = ceilings_by_level(levels, threads, options.refresh_ceilings);
    for (const KernelEntry& entry : entries) {
      progress.show(fmt::format("{} {}", entry.name, entry.shape));
      const KernelSettings settings{.threads = threads, .repeat = options.repeat};
      const KernelResult result = time_kernel(entry, entry.library ? library_levels : levels, settings);
      for (size_t i = 0; i < result.levels.size(); ++i) {
        rows.push_back(row_of(entry, result, i, ceilings.at(result.levels[i].isa)));
        rows.back().set("threads", threads).set("repeat", result.levels[i].seconds.size());
        rows.back().set("ceiling_read_bytes_per_second", ceilings.at(levels.back()).read_bytes_per_second);
      }
    }
  }
  Report report = report_of(rows, {"threads", "repeat", "ceiling_read_bytes_per_second"});
  report.fix_csv(bench_kernel_columns());
  if (rows.empty()) return report;
  report.show("microseconds_spread", Display::plain, 2);
  for (const char* name : {"giga_per_second", "giga_ceiling", "speedup"}) report.show(name, Display::plain, 3);
  report.show("fraction", Display::fraction, 1);
  report.show("of_dense", Display::fraction, 1);
  report.show_detail("portable_microseconds");
  return report;
}

}  // namespace hone::cli
