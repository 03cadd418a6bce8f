// What bench measures of models, as numbers, and the report that is made of them in the end.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "bench/routing_report.h"
#include "model/store.h"
#include "report/report.h"

namespace hone {

// Samples are one a repetition; other numbers are medians over them.
struct GenerationResult {
  int64_t prompt = 0, generate = 0;  // tokens of each sequence
  std::vector<double> prefill = {};  // tokens/s
  double first_token_ms = 0, flops_per_second = 0, matrix_fraction = 0, attention_ms = 0, attention_fraction = 1;
  ModelRouting routing = {};
  ModelDepth depth = {};  // of prompts and steps
  // Of steps of one token; empty and 0 where none was generated.
  std::vector<double> decode = {};  // tokens/s
  double attention_decode_ms = 0, latency_ms_p50 = 0, latency_ms_p95 = 0, latency_ms_p99 = 0;
  double flops_per_token = 0, bytes_per_token = 0, read_bytes_per_second = 0, bandwidth_fraction = 0;
};

struct TrainingResult {
  int64_t context = 0, steps = 0;  // tokens of a window; steps of a repetition
  std::vector<double> train = {};  // tokens/s
  double step_ms = 0, attention_ms = 0, attention_forward_ms = 0, attention_backward_ms = 0, attention_fraction = 1;
  double flops_per_second = 0, matrix_fraction = 0;
  std::string recompute = "none";  // what the backward pass computes again
  int64_t activation_bytes = 0;    // StepResult's
};

// Text written greedily behind prompts of a text, with one kind of draft or one rule of exits.
struct WritingResult {
  int64_t prompt = 0, generate = 0;  // tokens
  std::string draft, exit;           // as --draft and --exit name it; "none"; empty: not compared
  std::vector<double> decode = {};   // tokens/s after the first token of each text
  int64_t steps = 0, drafted = 0, verified = 0, accepted = 0;  // of all texts; tokens
  int64_t tokens = 0;                                          // with exits: of all texts
  double mean_depth = 0;                                       // of these: layers that a token went through
  double text_loss = 0;                                        // with exits: of what was written, by all layers
  ModelDepth depth = {};                                       // of prompts and texts
};

// Media, then text, up to the logits that the first token is chosen by.
struct PartsResult {
  struct Part {
    std::string medium, encoder;
    int64_t rows = 0;
    std::vector<double> features_ms = {},
                        encoder_ms = {};  // of all sequences: what is decoded to numbers; these to rows
  };
  std::vector<Part> parts;
  int64_t prompt = 0, rows = 0;                           // tokens of text; rows of a sequence with all its parts
  std::vector<double> first_token_ms = {}, prefill = {};  // prefill: rows/s
};

// Steps on sequences of text, and of each medium with a token behind it: all in one batch, and a batch of each kind.
struct PartsTrainingResult {
  std::vector<std::string> parts = {};
  int64_t context = 0, rows = 0, steps = 0;  // tokens of a text; rows of the mixed batch; steps of a repetition
  // Rows/s and time of a mixed step; of one that adds the gradients of a batch of each kind; the one over the other.
  std::vector<double> train = {}, step_ms = {}, separate_ms = {}, over_separate = {};
  std::string recompute = "none";
};

using Measured = std::variant<GenerationResult, TrainingResult, WritingResult, PartsResult, PartsTrainingResult>;

// One model at one setting.
struct BenchResult {
  std::string model, form, attention;  // path; forms of the weights; kinds of attention
  int64_t batch = 1;
  int threads = 1;
  std::string_view division = {};  // of the model, by name (model/division.h); none: one process had it whole
  int ranks = 1;                   // with a part each
  Measured measured;
  // Of medians to those of the first model at the same setting, "decode": 1.8; none where there is one model.
  std::vector<std::pair<std::string, double>> ratios = {};
  std::optional<int64_t> peak_rss_bytes = {};
  int64_t file_bytes = 0;
  ModelSize size = {};
  std::string precision;
  int64_t repeat = 0;
  double ceiling_read_bytes_per_second = 0, ceiling_flops_per_second = 0;

  const GenerationResult* generation() const { return std::get_if<GenerationResult>(&measured); }
  const WritingResult* writing() const { return std::get_if<WritingResult>(&measured); }
  const TrainingResult* training() const { return std::get_if<TrainingResult>(&measured); }
  const PartsResult* parts() const { return std::get_if<PartsResult>(&measured); }
  const PartsTrainingResult* parts_training() const { return std::get_if<PartsTrainingResult>(&measured); }
};

// What ratios between models are made of: {"decode", median tokens/s}.
std::vector<std::pair<std::string, double>> rates(const BenchResult& result);

Report bench_report(const std::vector<BenchResult>& results);

// Where kinds of attention are compared at several lengths: from which length on each is faster than the first, in
// sentences.
std::vector<std::string> crossovers(const std::vector<BenchResult>& results);

// SVG: rates over lengths, and over batch sizes where there are several. Where kinds of attention are compared, times
// as well. At least one result.
std::string bench_plot(const std::vector<BenchResult>& results);

// Rows with what is the same in all of them moved to the report's common part, for the columns named, and this machine.
Report report_of(const std::vector<Row>& rows, const std::vector<std::string>& common_columns);

}  // namespace hone
