// The best types of weights within a budget of bytes: a search over every element of the table for every weight.
//
// What the model loses by rounding one weight is measured once, as the divergence of its predictions on a text. By
// other roundings of the same weight it is taken to grow with their squared error, and to add up over weights. Both
// hold for errors that are small (Malinovskii et al., arXiv 2411.17525, theorem 1). Dynamic programming then finds the
// least sum within the budget.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "compress/quantize.h"

namespace hone {

// One way to store a weight.
struct TypeCandidate {
  kernels::PackedElement element{};
  int64_t group = 0;
  int64_t file_bytes = 0;     // of its arrays in a file
  int64_t stored_bytes = 0;   // that a product reads
  double relative_error = 0;  // squared, weighted as the method does
  double kl = 0;              // what it adds to the divergence, as far as that is a sum; nats a token
};

struct BudgetLayer {
  std::string name;
  int64_t elements = 0;
  size_t measured = 0;     // the candidate whose divergence was measured
  double measured_kl = 0;  // of the model with this weight alone rounded so
  std::vector<TypeCandidate> candidates;
  std::optional<int64_t> calibration_tokens;  // as in QuantizedLayer
  bool data_free = false;
};

struct BudgetSettings {
  QuantizeSettings quantize;                    // method, calibration; which weights: all that it chooses
  std::vector<int64_t> groups = {32, 64, 128};  // of elements with scales
  const CalibrationText* text = nullptr;        // that divergence is measured on
  double bits = 4;                              // about what the budget is a weight: there divergence is measured
  std::function<void(const std::string& what, int64_t done, int64_t all)> progress;
};

// Of each weight that would be quantized the type with scales that takes most nearly as many bits as the budget: what
// preparations (preparation.h) go by before types are found.
std::vector<LayerType> typical_types(const Transformer& model, const BudgetSettings& settings);

// All that is to be known of each weight. The model is not changed. Throws as quantize_model().
std::vector<BudgetLayer> measure_types(Transformer& model, const BudgetSettings& settings);

// Of each layer the candidate, so that the sum of bytes is at most `budget` and the sum of kl least: exact but for
// bytes rounded up to a sixteen-thousandth of the budget. Empty where nothing fits.
using Bytes = int64_t TypeCandidate::*;
std::vector<size_t> best_types(const std::vector<BudgetLayer>& layers, int64_t budget, Bytes bytes);

int64_t bytes_of(const std::vector<BudgetLayer>& layers, const std::vector<size_t>& chosen, Bytes bytes);
double kl_of(const std::vector<BudgetLayer>& layers, const std::vector<size_t>& chosen);
int64_t least_bytes(const std::vector<BudgetLayer>& layers, Bytes bytes);

// For QuantizeSettings::layer_types.
std::vector<LayerType> types_of(const std::vector<BudgetLayer>& layers, const std::vector<size_t>& chosen);
// The same element for every weight, with the group that is nearest to `group`.
std::vector<size_t> uniform_types(const std::vector<BudgetLayer>& layers, kernels::PackedElement element,
                                  int64_t group);

}  // namespace hone
