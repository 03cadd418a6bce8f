// Pruning methods: which weights of a matrix go, and what becomes of the others. Each is a file and a row of
// prune_method.cpp.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "compress/methods/method_number.h"
#include "compress/patterns.h"
#include "compress/statistics.h"
#include "tensor/tensor.h"

namespace hone {

struct WeightToPrune {
  const std::string& name;  // for messages
  Tensor weight;            // f32 [rows, cols], zero where pruned
  Bitmask mask;             // of what is pruned already and stays so
  // The statistics that the method names among its needs; null where it needs none, and where too few tokens came for
  // them: then it goes on as if all inputs were alike.
  const InputStatistics* inputs;
  const Pattern& pattern;  // which fits the matrix
  double sparsity;
  // Its own number; none: the method's usual one.
  std::optional<double> number = {};
};

struct PrunedWeight {
  Tensor weight;  // f32 [rows, cols]; what the mask leaves out need not be zero yet
  Bitmask mask;
  Tensor scores;  // f32 [rows, cols], none negative: how much each weight matters
};

struct PruneMethod {
  std::string_view name;
  std::string_view summary;  // a line
  std::vector<StatisticKind> needs;
  MeasuredBehind behind;
  // Throws Error(input), naming the weight, for weights or statistics that are not finite numbers.
  PrunedWeight (*run)(const WeightToPrune& what);
  // Whether it makes something of fewer tokens than a layer has inputs; others then go on as without data.
  bool dampens = false;
  // Whether the weights that it keeps are the best of its mask already (least_squares.h).
  bool solves = false;
  std::optional<MethodNumber> number = {};  // where it has one

  bool needs_calibration() const { return !needs.empty(); }
};

std::span<const PruneMethod> prune_methods();
const PruneMethod& prune_method(std::string_view name);  // throws Error(usage) that lists the methods

}  // namespace hone
