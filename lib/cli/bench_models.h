// Measuring several models at the same settings, repetition by repetition in turn.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cli/bench_options.h"
#include "kernels/ceilings.h"
#include "model/store.h"
#include "report/report.h"

namespace hone::cli {

// One model at one point: repetitions are run, then described.
class Measurement {
 public:
  virtual ~Measurement() = default;
  virtual void repeat(uint64_t seed, bool record) = 0;
  virtual void describe(Row& row, const kernels::Ceilings& ceilings) const = 0;
  // What ratios between models are made of: {"decode", median tokens/s}.
  virtual std::vector<std::pair<std::string, double>> rates() const = 0;
};

// `model` must outlive the result. Throws Error(usage) where the model cannot do what is asked.
std::unique_ptr<Measurement> measure_generation(Model& model, const BenchPoint& point, const BenchOptions& options);
std::unique_ptr<Measurement> measure_training(Model& model, const BenchPoint& point, const BenchOptions& options,
                                              uint64_t seed);

// The median of samples as `name`, and their NAME_spread (median absolute deviation), NAME_min and NAME_max.
void set_samples(Row& row, const std::string& name, const std::vector<double>& samples);

std::vector<Row> bench_models(const BenchOptions& options, const Common& common);

// Rows with what is the same in all of them moved to the report's common part, for the columns named.
Report report_of(const std::vector<Row>& rows, const std::vector<std::string>& common_columns);

// Where kinds of attention are compared at several lengths: from which length on each is faster than the first, in
// sentences.
std::vector<std::string> crossovers(const std::vector<Row>& rows);

// SVG: rates over prompt lengths, and over batch sizes where there are several.
// Where kinds of attention are compared, times as well.
std::string bench_plot(const std::vector<Row>& rows);

Report bench_kernels(const BenchOptions& options, const Common& common);

}  // namespace hone::cli
