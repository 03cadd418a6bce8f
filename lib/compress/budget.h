// The best types of weights, and how sparse each is, within a budget of bytes: a search over every element of the table
// for every weight, each at every sparsity that is allowed.
//
// What the model loses by rounding one weight is measured once, as the divergence of its predictions on a text. By
// other roundings of the same weight it is taken to grow with their squared error, and to add up over weights. Both
// hold for errors that are small (Malinovskii et al., arXiv 2411.17525, theorem 1). Dynamic programming then finds the
// least sum within the budget.
//
// The error of a type alone is that of the weights, as the method weights it. Pruning and rounding are compared by what
// they do together to the layer's outputs: (w - v) C (w - v)^T over w C w^T, where v is pruned by second order, the
// least squares of its mask, then rounded (Frantar & Alistarh, arXiv 2301.00774, section 3.5). What least squares leave
// is orthogonal, by C, to all that the mask allows: the numbers nearest to them are those nearest to w.
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
  double relative_error = 0;  // squared, as said above
  double kl = 0;              // what it adds to the divergence, as far as that is a sum; nats a token
  double sparsity = 0;        // to which the weight is pruned first; 0: its mask stays as it is
};

struct BudgetLayer {
  std::string name;
  int64_t elements = 0;
  double sparsity = 0;     // of the mask that it has already, which every candidate keeps at least
  size_t measured = 0;     // the candidate whose divergence was measured
  double measured_kl = 0;  // of the model with this weight alone rounded so
  std::vector<TypeCandidate> candidates;
  std::optional<int64_t> calibration_tokens;  // as in QuantizedLayer
  bool data_free = false;
};

struct BudgetSettings {
  QuantizeSettings quantize;  // method, calibration; which weights: all that it chooses
  std::vector<kernels::PackedElement> elements{kernels::all_elements.begin(), kernels::all_elements.end()};
  std::vector<int64_t> groups = {32, 64, 128};  // of elements with scales
  // To which the weights that quantize.prune's rule chooses may be pruned, in [0, 1), 0 for as they are; other weights
  // stay as they are. None: types alone are searched, by their own error.
  std::vector<double> sparsities = {};
  const CalibrationText* text = nullptr;  // that divergence is measured on
  double bits = 4;                        // about what the budget is a weight: there divergence is measured
  std::function<void(const std::string& what, int64_t done, int64_t all)> progress;
};

// Of each weight that would be quantized the type with scales that takes most nearly as many bits as the budget: what
// preparations (preparation.h) go by before types are found.
std::vector<LayerType> typical_types(const Transformer& model, const BudgetSettings& settings);

// All that is to be known of each weight. What is pruned more, and takes no fewer bytes for it (int2 half pruned needs
// the other half for its mask), is no candidate. The model is not changed. Memory, beside what calibrate() takes and
// the reference: a rounding in f32 of every weight, and what pruning one of them takes. Throws as quantize_model().
std::vector<BudgetLayer> measure_types(Transformer& model, const BudgetSettings& settings);

// Of each layer the candidate, so that the sum of bytes is at most `budget` and the sum of kl least: exact but for
// bytes rounded up to a sixteen-thousandth of the budget. Empty where nothing fits.
using Bytes = int64_t TypeCandidate::*;
std::vector<size_t> best_types(const std::vector<BudgetLayer>& layers, int64_t budget, Bytes bytes);
// The same layers with those candidates alone that prune nothing, and of each the place among all. Empty where one has
// none.
struct TypesAlone {
  std::vector<BudgetLayer> layers;
  std::vector<std::vector<size_t>> places;
  std::vector<size_t> among_all(const std::vector<size_t>& chosen) const;
};
TypesAlone types_alone(const std::vector<BudgetLayer>& layers);

int64_t bytes_of(const std::vector<BudgetLayer>& layers, const std::vector<size_t>& chosen, Bytes bytes);
double kl_of(const std::vector<BudgetLayer>& layers, const std::vector<size_t>& chosen);
int64_t least_bytes(const std::vector<BudgetLayer>& layers, Bytes bytes);

// For QuantizeSettings::layer_types.
std::vector<LayerType> types_of(const std::vector<BudgetLayer>& layers, const std::vector<size_t>& chosen);
// The same element for every weight, at the sparsity that is nearest to `sparsity` from below (else the least), with
// the group that is nearest to `group`.
std::vector<size_t> uniform_types(const std::vector<BudgetLayer>& layers, kernels::PackedElement element, int64_t group,
                                  double sparsity = 0);

// Of the arrays of a weight in a file.
int64_t array_bytes(const Weight& weight);

}  // namespace hone
