#include "model/session.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace hone {

Session::Session(const Transformer& model, const StateShape& shape) : model_(model), state_(model.make_state(shape)) {
  if (shape.sequences < 1 || shape.capacity < 1)
    throw internal_error("a session of {} sequences of {} tokens", shape.sequences, shape.capacity);
}

template <class F>
void Session::run(std::span<const Piece> pieces, int64_t chunk, F&& take) {
  const NoTape pause;
  int64_t longest = 0;
  for (const Piece& piece : pieces) {
    for (const int32_t id : piece.ids)
      if (id < 0 || id >= model_.config().vocabulary)
        throw input_error("token {} is outside the model's vocabulary of {}", id, model_.config().vocabulary);
    longest = std::max(longest, static_cast<int64_t>(piece.ids.size()));
    if (piece.ids.empty() || chunk < 1) throw internal_error("{} tokens in chunks of {}", piece.ids.size(), chunk);
  }
  std::vector<int32_t> ids;
  for (int64_t begin = 0; begin < longest; begin += chunk) {
    std::vector<Span> spans;
    std::vector<size_t> of_spans;  // which piece each is of
    ids.clear();
    for (size_t i = 0; i < pieces.size(); ++i) {
      const auto& all = pieces[i].ids;
      const int64_t count = std::min(chunk, static_cast<int64_t>(all.size()) - begin);
      if (count < 1) continue;
      spans.push_back({pieces[i].sequence, state_.length(pieces[i].sequence), count});
      of_spans.push_back(i);
      ids.insert(ids.end(), all.begin() + begin, all.begin() + begin + count);
    }
    Call call = model_.call(Batch(std::move(spans)), state_.shape().type);
    call.trace = trace;
    const Tensor hidden = model_.hidden(ids, call, &state_).value();
    int64_t row = 0;
    for (size_t i = 0; i < of_spans.size(); ++i) {
      const int64_t count = call.batch.spans()[i].count;
      take(of_spans[i], begin, hidden.rows(row, count));
      row += count;
    }
  }
}

namespace {

void copy_rows(const Tensor& from, const Tensor& to, int64_t first) {
  std::memcpy(to.rows(first, from.dim(0)).raw(), from.raw(), from.bytes());
}

}  // namespace

Tensor Session::feed(std::span<const Piece> pieces, int64_t chunk) {
  const Tensor last =
      Tensor::empty({static_cast<int64_t>(pieces.size()), model_.config().block.dim}, state_.shape().type);
  run(pieces, chunk, [&](size_t piece, int64_t begin, const Tensor& hidden) {
    if (begin + hidden.dim(0) == static_cast<int64_t>(pieces[piece].ids.size()))
      copy_rows(hidden.rows(hidden.dim(0) - 1, 1), last, static_cast<int64_t>(piece));
  });
  const NoTape pause;
  return model_.logits(last);
}

std::vector<Session::Piece> Session::whole(std::span<const int32_t> ids) const {
  const size_t count = static_cast<size_t>(sequences()), length = ids.size() / count;
  if (length < 1 || length * count != ids.size())
    throw internal_error("{} tokens cannot be fed to {} sequences", ids.size(), count);
  std::vector<Piece> pieces;
  for (size_t s = 0; s < count; ++s) pieces.push_back({static_cast<int64_t>(s), ids.subspan(s * length, length)});
  return pieces;
}

Tensor Session::feed(std::span<const int32_t> ids, int64_t chunk) {
  return feed(whole(ids), chunk);
}

Tensor Session::hidden(std::span<const int32_t> ids, int64_t chunk) {
  const std::vector<Piece> pieces = whole(ids);
  const int64_t length = static_cast<int64_t>(pieces.front().ids.size());
  const Tensor all = Tensor::empty({static_cast<int64_t>(ids.size()), model_.config().block.dim}, state_.shape().type);
  run(pieces, chunk, [&](size_t piece, int64_t begin, const Tensor& hidden) {
    copy_rows(hidden, all, static_cast<int64_t>(piece) * length + begin);
  });
  return all;
}

void Session::clear() {
  for (int64_t s = 0; s < sequences(); ++s) state_.truncate(s, 0);
}

}  // namespace hone
