#include "nn/state.h"

#include <algorithm>

#include "base/error.h"

namespace hone {

State::State(const StateShape& shape) : shape_(shape), lengths_(static_cast<size_t>(shape.sequences), 0) {}

int64_t State::bytes() const {
  int64_t total = 0;
  for (const auto& layer : layers_) total += layer->bytes();
  return total;
}

void State::require_room(const Batch& batch) const {
  std::vector<bool> seen(lengths_.size());
  for (const Span& span : batch.spans()) {
    const auto s = static_cast<size_t>(span.sequence);
    if (s >= lengths_.size() || seen[s] || span.first != lengths_[s])
      throw internal_error("a span of sequence {} from position {} on does not continue one of {}", span.sequence,
                           span.first, lengths_.size());
    seen[s] = true;
  }
  if (batch.end() > shape_.capacity)
    throw usage_error("a sequence of {} tokens does not fit a cache of {}", batch.end(), shape_.capacity);
}

void State::advance(const Batch& batch) {
  for (const Span& span : batch.spans()) lengths_[static_cast<size_t>(span.sequence)] = span.first + span.count;
}

void State::truncate(int64_t sequence, int64_t tokens) {
  if (sequence < 0 || sequence >= sequences() || tokens < 0 || tokens > length(sequence))
    throw internal_error("sequence {} of {} cannot be cut to {} tokens", sequence, sequences(), tokens);
  const int64_t before = length(sequence);
  if (tokens == before) return;
  for (const auto& layer : layers_)
    if (tokens > 0 && tokens < layer->earliest(before))
      throw usage_error("{} of {} tokens cannot be taken back: a layer keeps enough for {}", before - tokens, before,
                        before - layer->earliest(before));
  for (const auto& layer : layers_) layer->truncate(sequence, before, tokens);
  lengths_[static_cast<size_t>(sequence)] = tokens;
}

}  // namespace hone
