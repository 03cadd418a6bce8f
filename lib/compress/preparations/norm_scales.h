// Inputs of a linear layer times scales, and the norm before them by the inverse: the model computes the same.
//
// Only where one layer reads the norm: query/key/value, what takes its place in another mixer, and up of a feed-forward
// without experts.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "compress/calibration.h"
#include "compress/preparation.h"
#include "weights/quantized_matrix.h"

namespace hone {

// A layer that alone reads a norm.
struct NormReader {
  std::shared_ptr<Weight>* weight = nullptr;
  Norm* norm = nullptr;
};

// Calibrates the readers of norms that are f32 and become elements that `helps`: `change` is called for each with what
// it needs measured, and gives its number, if it has one. The numbers by the names of the weights.
using ReaderChange = std::function<std::optional<double>(const NormReader&, const LayerType&, const Measurement&)>;
std::map<std::string, double> change_norm_readers(const ModelToPrepare& what,
                                                  bool (*helps)(const kernels::ElementInfo& element),
                                                  const std::vector<StatisticKind>& needs, const ReaderChange& change);

// exp(log) of each, their geometric mean 1.
std::vector<float> centred_scales(const std::vector<double>& logs);

// Column j of a matrix in f32 times scales[j].
Tensor scaled_columns(const Tensor& weight, std::span<const float> scales);

// E[x_j^2] of inputs once they are divided by scales.
std::vector<float> moments_behind(std::span<const float> moments, std::span<const float> scales);

// A matrix in f32 and its mask, rounded as the layer will be; `moments` of its inputs.
QuantizedMatrix rounded_as(const LayerType& layer, const Tensor& matrix, const Bitmask& mask,
                           std::span<const float> moments, bool search);

// Multiplies the inputs of the layer's weight, f32 `dense` and its mask, and divides what the norm gives.
void scale_inputs(const NormReader& reader, const Tensor& dense, const Bitmask& mask, std::span<const float> scales);

}  // namespace hone
