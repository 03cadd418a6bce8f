// Options of quantizing activations as well: which weights take 8 bits of them, and what chooses that.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/tool.h"
#include "compress/activations.h"
#include "report/report.h"

namespace hone::cli {

struct ActivationOptions {
  std::string activations = "exact";
  double max_loss_increase = ActivationSettings().max_loss_increase;
  const CLI::App* app = nullptr;  // that they were added to

  void add(CLI::App* group, const CLI::App& to);
  bool asked() const { return activations == "int8"; }
  void check() const;  // before anything is read: Error(usage) for a bound of nothing
  // Before any work: Error(usage) where the text cannot be measured on, or there is no memory for that.
  void check_text(const CalibrationText& text, const Model& model) const;
};

// Of these weights of a quantized model; none where nothing is asked for or no weight takes them.
std::optional<ActivationChoice> choose_activations(const ActivationOptions& o, const CalibrationText& text,
                                                   Transformer& model, const std::vector<std::string>& names);

// What goes to the lineage and the result; null where nothing was chosen.
nlohmann::json activation_results(const ActivationOptions& o, const std::optional<ActivationChoice>& choice);
// The same members with the longest numbers that can be: what the result needs of a file at most.
nlohmann::json longest_activation_results(const ActivationOptions& o);

// Of reports: what was chosen for a weight.
std::vector<std::string> activation_columns();
void set_activations(Row& row, const std::optional<ActivationChoice>& choice, const std::string& name);

}  // namespace hone::cli
