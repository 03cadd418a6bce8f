// Scales of a quantized model, trained on the divergence from the model that it was made of; its integers stay.
#pragma once

#include <functional>

#include "compress/calibration.h"
#include "model/transformer.h"

namespace hone {

struct DistillSettings {
  int64_t steps = 0;
  int64_t batch = 8;  // windows a step, in an order that follows from the seed; a window comes again when all have been
  double learning_rate = 1e-3;  // of factors that begin as 1: falls to a tenth of it on a cosine
  DType type = DType::f32;      // of activations and products
  uint64_t seed = 1;
  std::function<void(int64_t done, int64_t all, double divergence)> progress;
};

struct Distilled {
  int64_t scales = 0, norms = 0;  // numbers that were trained
  double before = 0, after = 0;   // mean divergence of the first and the last tenth of the steps, nats a token
};

// By Adam on KL(parent || model) over the text's windows: the scales of linear layers, and gains and biases of norms
// and layers. An embedding, and a head that is one, keep theirs. Error(usage) where no weight has scales. A signal
// leaves the model as it was when it came.
Distilled distill(Transformer& model, const Transformer& parent, const CalibrationText& text,
                  const DistillSettings& settings);

// Bytes that this takes beside the two models: values in f32 and their copies, and what a step keeps.
double distill_bytes(const Transformer& model, const CalibrationText& text, const DistillSettings& settings);

}  // namespace hone
