#include "nn/state.h"

#include <algorithm>

#include "base/error.h"
#include "base/spelling.h"

namespace hone {

State::State(const StateShape& shape) : shape_(shape), lengths_(static_cast<size_t>(shape.sequences), 0) {
  if (shape.pages == 0) return;
  if (shape.page_rows < 1 || shape.page_rows % kernels::attention_block)
    throw usage_error("pages of {} tokens; the kernels' tiles need a multiple of {}", shape.page_rows,
                      kernels::attention_block);
  auto table = std::make_shared<PageTable>();
  table->pages = shape.pages;
  table->page_rows = shape.page_rows;
  table->per_sequence = (shape.capacity + shape.page_rows - 1) / shape.page_rows;
  table->of.assign(static_cast<size_t>(shape.sequences * table->per_sequence), 0);
  shape_.table = std::move(table);
}

void State::copy_page(int32_t from, int32_t to, int64_t rows) {
  for (const auto& layer : layers_) layer->copy_page(from, to, rows);
}

bool State::keeps() const {
  return std::any_of(layers_.begin(), layers_.end(), [](const auto& layer) { return layer->keeps(); });
}

State::Kept State::keep(int64_t sequence) const {
  Kept kept;
  const auto s = static_cast<size_t>(sequence);
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    if (stored_[layer][s] != by_layer_[layer][s])
      throw internal_error("sequence {} cannot be kept: tokens of it were taken back", sequence);
    kept.push_back(layers_[layer]->keep(sequence, length(sequence)));
  }
  return kept;
}

void State::begin(int64_t sequence, int64_t length, const Kept* kept) {
  const auto s = static_cast<size_t>(sequence);
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    if (kept) layers_[layer]->restore(sequence, length, (*kept)[layer]);
    by_layer_[layer][s] = stored_[layer][s] = length;
  }
  lengths_[s] = length;
}

int64_t State::bytes() const {
  int64_t total = 0;
  for (const auto& layer : layers_) total += layer->bytes();
  return total;
}

void State::add_layer(std::unique_ptr<LayerState> layer) {
  layers_.push_back(std::move(layer));
  by_layer_.push_back(lengths_);
  stored_.push_back(lengths_);
}

void State::require_room(const Batch& batch, int64_t from, int64_t to) const {
  std::vector<bool> seen(lengths_.size());
  for (const Span& span : batch.spans()) {
    const auto s = static_cast<size_t>(span.sequence);
    bool fits = s < lengths_.size() && !seen[s];
    for (int64_t layer = from; fits && layer < to; ++layer) fits = span.first == length(span.sequence, layer);
    if (!fits)
      throw internal_error("a span of sequence {} from position {} on does not continue one of {}", span.sequence,
                           span.first, lengths_.size());
    seen[s] = true;
  }
  if (batch.end() > shape_.capacity)
    throw usage_error("a sequence of {} tokens does not fit a cache of {}", batch.end(), shape_.capacity);
}

void State::advance(const Batch& batch, int64_t from, int64_t to) {
  for (const Span& span : batch.spans()) {
    const auto s = static_cast<size_t>(span.sequence);
    const int64_t end = span.first + span.count;
    for (int64_t layer = from; layer < to; ++layer) {
      by_layer_[static_cast<size_t>(layer)][s] = end;
      int64_t& stored = stored_[static_cast<size_t>(layer)][s];
      stored = std::max(stored, end);
    }
    lengths_[s] = end;
    for (const std::vector<int64_t>& layer : by_layer_) lengths_[s] = std::min(lengths_[s], layer[s]);
  }
}

void State::truncate(int64_t sequence, int64_t tokens) {
  const auto s = static_cast<size_t>(sequence);
  if (sequence < 0 || sequence >= sequences() || tokens < 0 || tokens > length(sequence))
    throw internal_error("sequence {} of {} cannot be cut to {} tokens", sequence, sequences(), tokens);
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    const int64_t before = by_layer_[layer][s];
    const int64_t earliest = layers_[layer]->earliest(sequence, stored_[layer][s]);
    if (tokens > 0 && tokens < before && tokens < earliest)
      throw usage_error("{} of {} cannot be taken back: a layer keeps enough for {}", before - tokens,
                        counted(before, "token"), before - earliest);
  }
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    int64_t& length = by_layer_[layer][s];
    if (tokens < length) layers_[layer]->truncate(sequence, length, tokens);
    length = tokens;
    if (tokens == 0) stored_[layer][s] = 0;
  }
  lengths_[s] = tokens;
}

}  // namespace hone
