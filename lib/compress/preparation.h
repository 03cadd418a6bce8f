// What changes a model before its weights are rounded, so that rounding costs less: what the model computes stays as it
// was. Each is a file in preparations/ and a row of preparation.cpp.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>

#include "compress/calibration.h"
#include "kernels/packed/element.h"
#include "model/transformer.h"

namespace hone {

// How one weight will be rounded, and before that pruned.
struct LayerType {
  std::string name;  // of the weight
  kernels::PackedElement element{};
  int64_t group = 0;
  double sparsity = 0;  // to which it is pruned (QuantizeSettings::prune); 0: its mask stays as it is
};

struct ModelToPrepare {
  Transformer& model;
  std::span<const LayerType> layers;
  bool search;  // scales are searched, else they just reach the largest weight (QuantizeOptions::search)
  const CalibrationText& text;
  DType type;  // of activations in calibration
};

struct Preparation {
  std::string_view name;
  std::string_view what;                               // a clause, for help
  std::string_view number;                             // what reports call the number that it gives of a layer
  bool (*helps)(const kernels::ElementInfo& element);  // whether it changes layers that become so
  // A number of each layer that it changed, or tried to. Throws as calibrate() does, and Error(input), naming the
  // layer, for inputs that are not finite.
  std::map<std::string, double> (*run)(const ModelToPrepare& what);
};

std::span<const Preparation> preparations();
const Preparation& preparation(std::string_view name);  // throws Error(usage) that lists them

}  // namespace hone
