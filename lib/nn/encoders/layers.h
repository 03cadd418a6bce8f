// Transformer layers as the body of an encoder.
#pragma once

#include <memory>

#include "nn/encoders/encoder.h"

namespace hone {

// So many layers as those of the model, in which the rows of a part see each other whole, and a norm behind them: heads
// for the model's width, and feed-forwards four times as wide as that.
std::unique_ptr<EncoderBody> encoder_body_of_layers(const BlockBlueprint& blueprint, int64_t layers);

}  // namespace hone
