// Making a model of another shape from one that exists: each parameter of the new model is a part of one of the old.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/transformer.h"

namespace hone {

// Where a parameter comes from: the name of the old one and which of its rows and columns, in which order (repeated
// where they are named twice). An empty list is all of them.
struct Slice {
  std::string from;
  std::vector<int64_t> rows, cols;
};

Tensor slice_of(const Tensor& matrix, const Slice& slice);  // of f32 [rows, cols] or [rows]
Bitmask slice_of(const Bitmask& mask, const Slice& slice);  // an empty mask stays empty

// A model of `config` whose parameters are those slices, masks with them. Throws Error(usage) for a weight that is
// quantized, Error(internal) for a slice that does not fit.
std::unique_ptr<Transformer> rebuild(const Transformer& from, const Config& config,
                                     const std::function<Slice(const ParameterInfo& info)>& origin);

// What stays of one feed-forward: hidden units, in ascending order.
using KeptUnits = std::vector<int64_t>;

// What stays of a layer. Numbers are those of the old model, in ascending order.
struct KeptLayer {
  int64_t from = 0;                      // which layer of the old model
  std::vector<int64_t> heads, kv_heads;  // none: no attention
  std::vector<int64_t> experts;          // of a mixture
  // Of the feed-forward; of a mixture one for each expert that stays and one for the shared expert, if there is one.
  // Experts have equally many, the shared expert as many times the number of shared experts. None: no feed-forward.
  std::vector<KeptUnits> units;
};
// Everything stays.
std::vector<KeptLayer> whole_layers(const Config& config);

// The configuration of what stays: throws Error(usage) as check() of config.h, and for some of the heads of a layer
// whose score tells them apart.
Config kept_config(const Config& config, const std::vector<KeptLayer>& layers);
// The model of what stays: with everything it is `model` itself, bit for bit. Throws as rebuild().
std::unique_ptr<Transformer> keep_layers(const Transformer& model, const std::vector<KeptLayer>& layers);

}  // namespace hone
