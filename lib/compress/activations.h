// Which matrices of a quantized model take activations of 8 bits, within what the loss may grow by that.
//
// What each matrix alone costs is estimated block by block (compress/effects.h). Those that cost least for their
// products are taken, as many as keep the bound together, which is measured.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "compress/reference.h"

namespace hone {

struct ActivationLayer {
  std::string name;
  int64_t elements = 0;  // as many products a token
  double kl = 0;         // of the model where its activations alone have 8 bits, as estimated; nats a token
  int bits = 16;         // as chosen: 8 or 16
};

struct ActivationSettings {
  const CalibrationText* text = nullptr;  // measured on 16 of its windows, in f32
  double max_loss_increase = 0.001;       // as a part of the loss
  std::function<void(int64_t done, int64_t all)> progress;
};

struct ActivationChoice {
  std::vector<ActivationLayer> layers;  // in the order of the names
  Distance before, after;               // of the model with exact activations, and as chosen
};

// Those of these weights that can take activations of 8 bits: packed, of integers, and read by a product.
std::vector<std::string> activation_layers(Transformer& model, std::span<const std::string> names);

// Stores with each of activation_layers() how many bits its activations have (with_activation_bits), and computes so
// from then on, rows in f32 included where they are 8. Of the whole choice both the growth of the loss and the
// divergence from the model with exact activations are at most the bound: luck on a short text may hide the one, but
// not the other. Throws Error(usage) for a text of examples, Error(input) where the loss is not a number.
ActivationChoice choose_activations(Transformer& model, std::span<const std::string> names,
                                    const ActivationSettings& settings);

}  // namespace hone
