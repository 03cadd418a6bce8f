// One call of a model that only reads: sessions, the server's engine and scores of whole texts all go through here.
#pragma once

#include <cstdint>
#include <vector>

#include "model/transformer.h"

namespace hone {

struct ReadSettings {
  DType type = DType::f32;
  Phase products = Phase::counted;  // as whose the rows enter products; attention asks each span
  Trace trace = {};
  int64_t layers = 0;  // as if the model had its first blocks alone, read there (Transformer::read()); 0: all
};

// Hidden states of the rows of all spans, [rows, dim] of settings.type, without a tape. With a state they follow what
// it remembers, and it remembers them; without one each span is all that there is of its sequence. Throws Error(usage)
// as Transformer::call().
Tensor hidden_states(const Transformer& model, const Input& input, std::vector<Span> spans,
                     const ReadSettings& settings, State* state = nullptr);

}  // namespace hone
