// Rounding methods: which number of an element (kernels/packed/element.h) each weight becomes. Each is a file and a row
// of round_method.cpp.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "compress/methods/method_number.h"
#include "compress/statistics.h"
#include "tensor/tensor.h"
#include "weights/quantized_matrix.h"

namespace hone {

struct WeightToRound {
  const std::string& name;  // for messages
  Tensor weight;            // f32 [rows, cols]
  Bitmask mask;             // what it leaves out becomes 0
  // The statistics that the method names among its needs; null where it needs none, there is no calibration text, and
  // where too few tokens came: then it goes on as if all inputs were alike.
  const InputStatistics* inputs;
  kernels::PackedElement element;
  int64_t group;  // columns that share a scale; 0: a whole row
  // Its own number; none: the method's usual one.
  std::optional<double> number = {};
};

struct RoundedWeight {
  QuantizedMatrix matrix;     // of an element with scales
  Tensor values;              // of one without: f32 [rows, cols], numbers of that element
  double relative_error = 0;  // squared, over the kept weights, weighted as the method does
};

struct RoundMethod {
  std::string_view name;
  std::string_view summary;  // a line
  std::vector<StatisticKind> needs;
  MeasuredBehind behind;
  bool without_scales;  // whether it can round to an element that has none
  // Throws Error(usage) for a group that cannot be, Error(input), naming the weight, for weights or statistics that are
  // not finite numbers.
  RoundedWeight (*run)(const WeightToRound& what);
  // Whether it makes something of fewer tokens than a layer has inputs; others then go on as without data.
  bool dampens = false;
  bool searches = true;  // scales with the least error; else those that just reach the largest weight
  std::optional<MethodNumber> number = {};  // where it has one
  std::string_view also = {};               // another name that calls it
};

std::span<const RoundMethod> round_methods();
std::vector<std::string> round_method_names();           // all that call one
const RoundMethod& round_method(std::string_view name);  // throws Error(usage) that lists the methods

// For methods that choose scales, each of which the integers next to its weights: quantize_matrix() of that weight.
RoundedWeight round_to_integers(const WeightToRound& what, bool search, std::span<const float> moments);

}  // namespace hone
