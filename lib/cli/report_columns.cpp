#include "cli/report_columns.h"

namespace hone::cli {
namespace {

using Names = std::vector<std::string>;

void append(Names& names, const Names& more) {
  names.insert(names.end(), more.begin(), more.end());
}

// NAME and its interval.
Names with_ends(const std::string& name) {
  return {name, name + "_low", name + "_high"};
}

Names with_spread(const std::string& name) {
  return {name, name + "_spread", name + "_min", name + "_max"};
}

}  // namespace

Names eval_columns() {
  Names names = {"model",
                 "file_bytes",
                 "parameters",
                 "nonzero_parameters",
                 "active_parameters",
                 "sparsity",
                 "zero_fraction",
                 "attention",
                 "attention_fraction",
                 "weight_bytes",
                 "tokenizer",
                 "questions",
                 "answers",
                 "tokens",
                 "bytes",
                 "loss",
                 "perplexity",
                 "bits_per_byte",
                 "accuracy",
                 "accuracy_stderr",
                 "accuracy_by_bytes",
                 "accuracy_by_bytes_stderr",
                 "router_entropy",
                 "largest_load_over_mean",
                 "dropped_tokens",
                 "prefill_tokens_per_second",
                 "decode_tokens_per_second",
                 "first_token_ms",
                 "attention_ms",
                 "attention_decode_ms",
                 "latency_ms_p50",
                 "latency_ms_p95",
                 "latency_ms_p99",
                 "peak_rss_bytes"};
  for (const char* metric : {"loss", "perplexity", "bits_per_byte", "accuracy"})
    for (const char* suffix : {"_difference", "_ratio"}) append(names, with_ends(std::string(metric) + suffix));
  append(names, with_ends("kl"));
  append(names, with_ends("top1_agreement"));
  append(names, {"speed_prompt_tokens", "speed_generated_tokens", "data", "context", "scored", "stride", "limit",
                 "precision", "baseline", "threads", "isa", "seed"});
  return names;
}

Names bench_columns() {
  Names names = {"model", "form", "attention", "batch", "threads", "prompt", "generate", "context", "steps"};
  for (const char* rate : {"prefill", "decode", "train"}) {
    append(names, with_spread(std::string(rate) + "_tokens_per_second"));
    names.push_back(std::string(rate) + "_ratio");
  }
  append(names, {"first_token_ms",
                 "step_ms",
                 "latency_ms_p50",
                 "latency_ms_p95",
                 "latency_ms_p99",
                 "attention_ms",
                 "attention_forward_ms",
                 "attention_backward_ms",
                 "attention_decode_ms",
                 "attention_fraction",
                 "router_entropy",
                 "largest_load_over_mean",
                 "dropped_tokens",
                 "flops_per_second",
                 "matrix_fraction",
                 "bytes_per_token",
                 "read_bytes_per_second",
                 "bandwidth_fraction",
                 "peak_rss_bytes",
                 "file_bytes",
                 "weight_bytes",
                 "parameters",
                 "active_parameters",
                 "nonzero_parameters",
                 "sparsity",
                 "zero_fraction",
                 "precision",
                 "repeat",
                 "ceiling_read_bytes_per_second",
                 "ceiling_flops_per_second",
                 "cpu",
                 "cores",
                 "isa"});
  return names;
}

Names bench_kernel_columns() {
  return {"kernel",
          "shape",
          "isa",
          "microseconds",
          "microseconds_spread",
          "portable_microseconds",
          "speedup",
          "ceiling",
          "giga_per_second",
          "giga_ceiling",
          "fraction",
          "of_dense",
          "threads",
          "repeat",
          "ceiling_read_bytes_per_second",
          "cpu",
          "cores"};
}

Names prune_columns() {
  return {"parameter",          "rows",       "cols", "sparsity_before", "sparsity", "score_kept",
          "calibration_tokens", "calibration"};
}

Names quantize_columns() {
  return {"parameter",          "type",       "form", "group", "relative_error", "bytes_before", "bytes",
          "calibration_tokens", "calibration"};
}

Names difference_columns() {
  return {"part",         "name",    "difference", "a",       "b",      "differing", "max_abs_difference",
          "mask_changes", "zeros_a", "zeros_b",    "model_a", "model_b"};
}

}  // namespace hone::cli
