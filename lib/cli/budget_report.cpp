#include "cli/budget_report.h"

#include <algorithm>

#include "cli/activation_options.h"
#include "cli/calibration_options.h"

namespace hone::cli {
namespace {

double bits_of(const BudgetLayer& layer, const TypeCandidate& c) {
  return 8 * static_cast<double>(c.stored_bytes) / static_cast<double>(layer.elements);
}

double sparsity_of(const BudgetLayer& layer, const TypeCandidate& c) {
  return std::max(layer.sparsity, c.sparsity);
}

}  // namespace

std::string type_name(const TypeCandidate& c) {
  const std::string name(kernels::info_of(c.element).name);
  return c.group > 0 ? fmt::format("{}:{}", name, c.group) : name;
}

Report considered_types(const std::vector<BudgetLayer>& layers, const std::vector<size_t>& chosen,
                        const std::map<std::string, std::map<std::string, double>>& prepared,
                        const std::optional<ActivationChoice>& activations) {
  Report report;
  for (size_t i = 0; i < layers.size(); ++i)
    for (size_t k = 0; k < layers[i].candidates.size(); ++k) {
      const TypeCandidate& c = layers[i].candidates[k];
      Row row;
      row.set("parameter", layers[i].name);
      row.set("type", kernels::info_of(c.element).name);
      row.set("group", c.group);
      row.set("sparsity", sparsity_of(layers[i], c));
      row.set("bytes", c.file_bytes);
      row.set("bits", bits_of(layers[i], c));
      row.set("relative_error", c.relative_error);
      row.set("divergence", c.kl);
      row.set("measured", k == layers[i].measured && layers[i].measured_kl > 0 ? "measured" : "expected");
      row.set("chosen", k == chosen[i] ? "chosen" : "");
      set_coverage(row, layers[i].calibration_tokens, layers[i].data_free);
      if (k == chosen[i]) set_activations(row, activations, layers[i].name);
      if (const auto found = prepared.find(layers[i].name); found != prepared.end())
        for (const auto& [name, number] : found->second) row.set(name, number);
      report.add(row);
    }
  std::vector<std::string> columns = {
      "parameter",  "type",     "group",  "sparsity",           "bytes",      "bits", "relative_error",
      "divergence", "measured", "chosen", "calibration_tokens", "calibration"};
  for (const std::string& name : activation_columns()) columns.push_back(name);
  for (const Preparation& row : preparations()) columns.emplace_back(row.number);
  report.fix_csv(columns);
  return report;
}

Report chosen_types(const std::vector<BudgetLayer>& layers, const std::vector<size_t>& chosen,
                    const std::optional<ActivationChoice>& activations) {
  Report report;
  for (size_t i = 0; i < layers.size(); ++i) {
    const TypeCandidate& c = layers[i].candidates[chosen[i]];
    Row row;
    row.set("parameter", layers[i].name);
    row.set("type", type_name(c));
    row.set("sparsity", sparsity_of(layers[i], c));
    row.set("bits", bits_of(layers[i], c));
    row.set("relative_error", c.relative_error);
    row.set("divergence", c.kl);
    set_activations(row, activations, layers[i].name);
    report.add(row);
  }
  return report;
}

Plot budget_plot(const std::vector<BudgetLayer>& layers, const std::vector<size_t>& chosen, std::vector<Series> alike,
                 double before, double after) {
  constexpr int steps = 24;
  Series expected{.name = "search (expected)", .dashed = true}, result{.name = "this model (measured)"};
  const auto least = static_cast<double>(least_bytes(layers, &TypeCandidate::file_bytes));
  double most = least;
  for (const Series& series : alike) most = std::max(most, *std::ranges::max_element(series.x));
  for (int i = 0; i <= steps; ++i) {
    const double bytes = least + (most - least) * i / steps;
    const std::vector<size_t> best = best_types(layers, static_cast<int64_t>(bytes), &TypeCandidate::file_bytes);
    expected.x.push_back(bytes);
    expected.y.push_back(before + kl_of(layers, best));
  }
  result.x.push_back(static_cast<double>(bytes_of(layers, chosen, &TypeCandidate::file_bytes)));
  result.y.push_back(after);
  alike.push_back(std::move(expected));
  alike.push_back(std::move(result));
  return {.title = "Loss over bytes of weights",
          .x = {.label = "bytes"},
          .y = {.label = "loss (nats/token)"},
          .series = std::move(alike)};
}

}  // namespace hone::cli
