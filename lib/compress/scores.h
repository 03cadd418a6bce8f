// Pruning scores: how much a weight matters. The lowest are pruned first.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "tensor/tensor.h"

namespace hone {

// Which weights of a matrix are compared with each other when the lowest are chosen.
enum class ComparisonGroup { layer, row };  // the whole matrix | each output row by itself

struct ScoreMethod {
  std::string_view name;     // as typed after --method
  std::string_view summary;  // a line for --help
  bool needs_calibration;    // wants the activations' norms
  ComparisonGroup comparison;
  // weight: f32 [rows, cols]; norms: the L2 norm of each input column over the calibration tokens, [cols], ignored
  // where the method needs none. Returns f32 [rows, cols], none negative.
  Tensor (*scores)(const Tensor& weight, std::span<const float> norms);
};

// magnitude: |w|. wanda: |w_ij| * ||x_j||_2 (Sun et al., arXiv 2306.11695, equation 1), compared within each output
// row.
std::span<const ScoreMethod> score_methods();

const ScoreMethod& score_method(std::string_view name);  // throws Error(usage) that lists the methods

// The method's scores of `weight`. Throws Error(usage), naming `where`, when the method needs norms and `norms` is
// empty, and Error(internal) when there is not one for each column.
Tensor pruning_scores(const ScoreMethod& method, const Tensor& weight, std::span<const float> norms,
                      const std::string& where);

}  // namespace hone
