#include "serve/decoder.h"

#include <algorithm>
#include <cstring>

#include "autograd/autograd.h"
#include "base/error.h"

namespace hone {
namespace {

// The last row of each sequence of hidden states [batch * length, dim].
Tensor last_rows(const Tensor& hidden, int64_t batch) {
  const int64_t length = hidden.dim(0) / batch;
  if (batch == 1) return hidden.rows(length - 1, 1);
  const Tensor last = Tensor::empty({batch, hidden.dim(1)}, hidden.dtype());
  const size_t row = last.bytes() / static_cast<size_t>(batch);
  for (int64_t s = 0; s < batch; ++s)
    std::memcpy(last.raw() + static_cast<size_t>(s) * row, hidden.rows((s + 1) * length - 1, 1).raw(), row);
  return last;
}

}  // namespace

Decoder::Decoder(Transformer& model, int64_t batch, int64_t capacity, DType type) : model_(model), type_(type) {
  if (batch < 1 || capacity < 1) throw internal_error("a decoder of {} sequences of {} tokens", batch, capacity);
  cache_ = model.make_cache(batch, capacity, type);
}

Tensor Decoder::feed(std::span<const int32_t> ids, int64_t chunk) {
  const NoTape pause;
  const int64_t length = static_cast<int64_t>(ids.size()) / batch();
  if (length < 1 || length * batch() != static_cast<int64_t>(ids.size()) || chunk < 1)
    throw internal_error("{} tokens cannot be fed to {} sequences in chunks of {}", ids.size(), batch(), chunk);
  for (const int32_t id : ids)
    if (id < 0 || id >= model_.config().vocabulary)
      throw input_error("token {} is outside the model's vocabulary of {}", id, model_.config().vocabulary);
  Tensor logits;
  std::vector<int32_t> part;
  for (int64_t begin = 0; begin < length; begin += chunk) {
    const int64_t count = std::min(chunk, length - begin);
    part.clear();
    for (int64_t s = 0; s < batch(); ++s) {
      const int32_t* row = ids.data() + s * length + begin;
      part.insert(part.end(), row, row + count);
    }
    Forward call;
    call.batch = batch();
    call.length = count;
    call.type = type_;
    call.cache = &cache_;
    const Var hidden = model_.hidden(part, call);
    if (begin + count == length) logits = model_.logits(last_rows(hidden.value(), batch()));
  }
  return logits;
}

void Decoder::clear() {
  std::fill(cache_.lengths.begin(), cache_.lengths.end(), 0);
}

}  // namespace hone
