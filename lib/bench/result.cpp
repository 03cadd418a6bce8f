#include "bench/result.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "measure/machine.h"
#include "media/medium.h"
#include "report/statistics.h"

namespace hone {
namespace {

// The median of samples as `name`, and their NAME_spread (median absolute deviation), NAME_min and NAME_max.
void set_samples(Row& row, const std::string& name, const std::vector<double>& samples) {
  const Summary summary = summarize(samples);
  row.set(name, summary.p50).set(name + "_spread", summary.spread);
  row.set(name + "_min", summary.min).set(name + "_max", summary.max);
}

void set_depth(Row& row, const ModelDepth& depth) {
  if (const LayerDepth all = sum(depth); all.tokens > 0) row.set("depth_fraction", all.fraction());
}

void set_measured(Row& row, const GenerationResult& r) {
  row.set("prompt", r.prompt).set("generate", r.generate);
  set_samples(row, "prefill_tokens_per_second", r.prefill);
  row.set("flops_per_second", r.flops_per_second).set("matrix_fraction", r.matrix_fraction);
  row.set("first_token_ms", r.first_token_ms);
  row.set("attention_ms", r.attention_ms).set("attention_fraction", r.attention_fraction);
  set_routing(row, r.routing);
  set_depth(row, r.depth);
  if (r.generate == 0) return;
  set_samples(row, "decode_tokens_per_second", r.decode);
  row.set("attention_decode_ms", r.attention_decode_ms);
  row.set("latency_ms_p50", r.latency_ms_p50).set("latency_ms_p95", r.latency_ms_p95);
  row.set("latency_ms_p99", r.latency_ms_p99);
  row.set("flops_per_token", r.flops_per_token);
  row.set("bytes_per_token", r.bytes_per_token).set("read_bytes_per_second", r.read_bytes_per_second);
  row.set("bandwidth_fraction", r.bandwidth_fraction);
}

void set_measured(Row& row, const TrainingResult& r) {
  row.set("context", r.context).set("steps", r.steps);
  set_samples(row, "train_tokens_per_second", r.train);
  row.set("step_ms", r.step_ms);
  row.set("recompute", r.recompute).set("activation_bytes", r.activation_bytes);
  row.set("attention_ms", r.attention_ms).set("attention_forward_ms", r.attention_forward_ms);
  row.set("attention_backward_ms", r.attention_backward_ms).set("attention_fraction", r.attention_fraction);
  row.set("flops_per_second", r.flops_per_second).set("matrix_fraction", r.matrix_fraction);
}

void set_measured(Row& row, const WritingResult& r) {
  if (!r.draft.empty()) row.set("draft", r.draft);
  if (!r.exit.empty()) row.set("exit", r.exit);
  row.set("prompt", r.prompt).set("generate", r.generate);
  set_samples(row, "decode_tokens_per_second", r.decode);
  set_depth(row, r.depth);
  if (r.tokens > 0) row.set("mean_depth", r.mean_depth);
  if (!r.exit.empty()) row.set("text_loss", r.text_loss);
  if (r.draft.empty() || r.draft == "none") return;
  const auto ratio = [](int64_t a, int64_t b) { return b > 0 ? static_cast<double>(a) / static_cast<double>(b) : 0; };
  row.set("drafted_tokens", r.drafted).set("verified_tokens", r.verified).set("accepted_tokens", r.accepted);
  row.set("tokens_per_step", ratio(r.steps + r.accepted, r.steps));
}

void set_measured(Row& row, const PartsTrainingResult& r) {
  row.set("context", r.context).set("steps", r.steps);
  row.set("parts", fmt::format("{}", fmt::join(r.parts, ","))).set("rows", r.rows);
  set_samples(row, "train_tokens_per_second", r.train);
  row.set("step_ms", median(r.step_ms)).set("separate_ms", median(r.separate_ms));
  row.set("over_separate", median(r.over_separate)).set("recompute", r.recompute);
}

void set_measured(Row& row, const PartsResult& r) {
  std::string names;
  for (const PartsResult::Part& part : r.parts) names += (names.empty() ? "" : ",") + part.medium;
  row.set("parts", names).set("prompt", r.prompt).set("rows", r.rows);
  set_samples(row, "prefill_tokens_per_second", r.prefill);
  row.set("first_token_ms", median(r.first_token_ms));
  for (const PartsResult::Part& part : r.parts) {
    row.set(part.medium + "_encoder", part.encoder).set(part.medium + "_rows", part.rows);
    row.set(part.medium + "_features_ms", median(part.features_ms));
    row.set(part.medium + "_encoder_ms", median(part.encoder_ms));
  }
}

// Of CSV, in order: the same whatever models, options and texts a run has.
std::vector<std::string> result_columns() {
  std::vector<std::string> names = {"model", "form", "attention", "batch", "threads"};
  for (const DivisionKind& row : divisions()) names.emplace_back(row.name);
  for (const char* name : {"prompt", "generate", "context", "steps", "draft", "exit", "parts", "rows"})
    names.emplace_back(name);
  for (const char* rate : {"prefill", "decode", "train"}) {
    for (const char* end : {"", "_spread", "_min", "_max"})
      names.push_back(fmt::format("{}_tokens_per_second{}", rate, end));
    names.push_back(fmt::format("{}_ratio", rate));
  }
  names.emplace_back("first_token_ms");
  for (const std::string& medium : media_words(&Medium::name))
    for (const char* end : {"_features_ms", "_encoder_ms"}) names.push_back(medium + end);
  const char* others[] = {"step_ms",
                          "separate_ms",
                          "over_separate",
                          "latency_ms_p50",
                          "latency_ms_p95",
                          "latency_ms_p99",
                          "attention_ms",
                          "attention_forward_ms",
                          "attention_backward_ms",
                          "attention_decode_ms",
                          "attention_fraction",
                          "drafted_tokens",
                          "verified_tokens",
                          "accepted_tokens",
                          "tokens_per_step",
                          "mean_depth",
                          "text_loss",
                          "depth_fraction",
                          "router_entropy",
                          "largest_load_over_mean",
                          "dropped_tokens",
                          "flops_per_second",
                          "matrix_fraction",
                          "flops_per_token",
                          "bytes_per_token",
                          "read_bytes_per_second",
                          "bandwidth_fraction",
                          "recompute",
                          "activation_bytes",
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
                          "isa"};
  names.insert(names.end(), std::begin(others), std::end(others));
  return names;
}

Row row_of(const BenchResult& r) {
  Row row;
  row.set("model", r.model).set("form", r.form).set("attention", r.attention);
  row.set("batch", r.batch).set("threads", r.threads);
  if (r.ranks > 1) row.set(r.division, r.ranks);
  std::visit([&](const auto& measured) { set_measured(row, measured); }, r.measured);
  for (const auto& [rate, ratio] : r.ratios) row.set(rate + "_ratio", ratio);
  if (r.peak_rss_bytes) row.set("peak_rss_bytes", *r.peak_rss_bytes);
  row.set("file_bytes", r.file_bytes).set("weight_bytes", r.size.weight_bytes);
  row.set("parameters", r.size.parameters).set("active_parameters", r.size.active_parameters);
  row.set("nonzero_parameters", r.size.nonzero_parameters).set("sparsity", r.size.sparsity());
  row.set("zero_fraction", r.size.zero_fraction());
  row.set("precision", r.precision).set("repeat", r.repeat);
  row.set("ceiling_read_bytes_per_second", r.ceiling_read_bytes_per_second);
  row.set("ceiling_flops_per_second", r.ceiling_flops_per_second);
  return row;
}

const Cell* find(const Row& row, std::string_view name) {
  for (const auto& [key, cell] : row.cells())
    if (key == name) return &cell;
  return nullptr;
}

bool same_in_all(const std::vector<Row>& rows, const std::string& name) {
  const Cell* first = find(rows.front(), name);
  for (const Row& row : rows)
    if (const Cell* cell = find(row, name); !first || !cell || *cell != *first) return false;
  return true;
}

bool ends_with_any(std::string_view name, std::initializer_list<const char*> ends) {
  for (const char* end : ends)
    if (name.ends_with(end)) return true;
  return false;
}

}  // namespace

std::vector<std::pair<std::string, double>> rates(const BenchResult& result) {
  if (const TrainingResult* r = result.training()) return {{"train", median(r->train)}};
  if (const WritingResult* r = result.writing()) return {{"decode", median(r->decode)}};
  if (const PartsResult* r = result.parts()) return {{"prefill", median(r->prefill)}};
  if (const PartsTrainingResult* r = result.parts_training()) return {{"train", median(r->train)}};
  const GenerationResult& r = *result.generation();
  std::vector<std::pair<std::string, double>> both = {{"prefill", median(r.prefill)}};
  if (r.generate > 0) both.emplace_back("decode", median(r.decode));
  return both;
}

Report bench_report(const std::vector<BenchResult>& results) {
  std::vector<Row> rows;
  for (const BenchResult& result : results) rows.push_back(row_of(result));
  std::vector<std::string> common = {"attention", "batch", "threads"};
  for (const DivisionKind& row : divisions()) common.emplace_back(row.name);
  for (const char* name : {"prompt", "context", "generate", "steps", "precision", "repeat",
                           "ceiling_read_bytes_per_second", "ceiling_flops_per_second"})
    common.emplace_back(name);
  Report report = report_of(rows, common);
  report.fix_csv(result_columns());
  return report;
}

Report report_of(const std::vector<Row>& rows, const std::vector<std::string>& common_columns) {
  Report report;
  std::vector<std::string> moved;
  for (const std::string& name : common_columns)
    if (!rows.empty() && same_in_all(rows, name)) moved.push_back(name);
  for (const Row& row : rows) {
    Row rest;
    for (const auto& [name, cell] : row.cells())
      if (std::find(moved.begin(), moved.end(), name) == moved.end()) rest.set(name, cell);
    report.add(rest);
  }
  for (const std::string& name : moved) report.common().set(name, *find(rows.front(), name));
  const Machine machine = this_machine();
  report.common().set("cpu", machine.cpu).set("cores", machine.cores);
  if (rows.empty() || !find(rows.front(), "isa")) report.common().set("isa", machine.isa);
  for (const Report::Column& column : std::vector<Report::Column>(report.columns())) {
    if (column.name.ends_with("_spread")) report.show(column.name, Display::count, 0);
    if (column.name.ends_with("_ratio") || column.name == "tokens_per_step")
      report.show(column.name, Display::fixed, 2);
    if (ends_with_any(column.name, {"_min", "_max", "flops_per_second", "read_bytes_per_second", "parameters"}))
      report.show_detail(column.name);
  }
  hide_routing_details(report);
  return report;
}

}  // namespace hone
