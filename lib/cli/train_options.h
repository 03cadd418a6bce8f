// Options of `train`, and what follows from them before anything runs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/depth_options.h"
#include "cli/example_options.h"
#include "cli/expert_options.h"
#include "cli/model_options.h"
#include "cli/run_options.h"
#include "cli/teacher_options.h"
#include "cli/tool.h"
#include "compress/quantize_aware.h"
#include "measure/footprint.h"
#include "train/run.h"

namespace hone::cli {

struct TrainOptions {
  // data
  std::vector<std::string> data, valid;
  double valid_fraction = 0;
  std::optional<std::string> tokenizer;  // none: bytes
  ExampleOptions lines;
  // model
  ModelOptions model;
  ExpertOptions experts;
  DepthOptions depth;
  std::string init, resume;
  // length of the run: one of the three
  std::optional<int64_t> steps, tokens;
  std::optional<double> epochs;
  // steps
  int64_t batch = 32, accumulate = 1, warmup = -1;
  double learning_rate = 1e-3, final_fraction = 0.1, decay = 0.2, clip = 1, z_loss = 0, dropout = 0, weight_decay = 0.1;
  std::string parallel;  // empty: all ranks
  std::string schedule = "cosine", precision = "auto", recompute = "none", curriculum, optimizer = "adamw";
  std::vector<std::pair<const OptimizerNumber*, double>> optimizer_numbers = numbers_of_optimizers();
  bool cautious_decay = false;
  std::string shuffle = "windows", decay_schedule = "constant", moments = "f32";
  std::optional<int64_t> warmup_tokens;
  std::optional<double> adamw_rate;  // of what Muon does not move; none: the learning rate
  int64_t memory_limit = 0;          // bytes; 0: none
  TeacherOptions teacher;
  // validation
  int64_t valid_every = 250, valid_tokens = 0, patience = 0;
  std::string average;  // empty: none
  double ema = 0;       // the same as "ema:X"; 0: none
  std::string keep = "last";
  // files
  std::string output, checkpoint, log, plot, format = "table";
  int64_t save_every = 0, log_every = 10;
  bool force = false;
  // sparsity during training
  std::optional<double> sparsity;
  double sparsify_from = 0.2, sparsify_until = 0.7;
  int64_t sparsify_every = 10;
  std::string pattern = "unstructured";
  // rounding during training
  std::string quantize_aware;  // TYPE[:GROUP]; empty: none
  double quantize_from = 0.5;

  void add(CLI::App& app);
  static std::vector<std::string> of_new_model();  // names of options that no existing model can have
  AverageRule averaging() const;                   // --average, or --ema
  void check_lines(bool examples) const { lines.check_effects(*app_, examples); }
  void resolve_resume();  // "auto": the checkpoint where there is one, else a new run
  // Cuts a step's sequences into as many batches as `ranks` share, or as the run had that is resumed, whose description
  // is given. Error(usage) where there is no such cut.
  void share_steps(int ranks, const nlohmann::json& resumed);
  // `config`: the file of --config.
  void check(const std::string& config) const;  // what can be refused before reading anything: Error(usage)
  // For a training text of `train_tokens` and a model of this configuration.
  std::optional<QuantizeAwareSettings> rounding(int64_t count) const;  // of a run of so many steps
  RunSettings settings(const Common& common, const RankGrid& grid, const Config& config, int64_t context,
                       int64_t train_tokens) const;
  void check_read_often() const;                // Error(usage) for texts that can be read once, of several ranks here
  void check_grid(const RankGrid& grid) const;  // Error(usage) for what ranks with parts of one model cannot do
  // What such a run takes beside the process itself; of several ranks each.
  Footprint footprint(const Config& config, const RunSettings& settings) const;
  // The plan of --recompute, or the one of least work that --memory-limit leaves room for, with `process` bytes for
  // what is no tensor, and `together` such runs in this process. Error(usage) naming the least possible where none does.
  RecomputePlan plan(const Config& config, const RunSettings& settings, double process, int together) const;
  // Error(internal) where the finished description lacks an option that shapes the run.
  void check_description(const RunSettings& settings) const;

 private:
  void check_files(const std::string& config) const;
  void check_effects() const;  // options that would be without effect

  const CLI::App* app_ = nullptr;
  std::optional<RunOptions> options_;
};

}  // namespace hone::cli
