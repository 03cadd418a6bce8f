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
  const kernels::RowsScope rows(rows_as(pieces.empty() ? Phase::counted : pieces.front().phase));
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
      spans.push_back({pieces[i].sequence, state_.length(pieces[i].sequence), count, pieces[i].phase});
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
  if (waiting_rows_ > 0) return deepen(ids);
  const std::vector<Piece> pieces = whole(ids);
  const int64_t length = static_cast<int64_t>(pieces.front().ids.size());
  const Tensor all = Tensor::empty({static_cast<int64_t>(ids.size()), model_.config().block.dim}, state_.shape().type);
  run(pieces, chunk, [&](size_t piece, int64_t begin, const Tensor& hidden) {
    copy_rows(hidden, all, static_cast<int64_t>(piece) * length + begin);
  });
  return all;
}

Tensor Session::shallow(std::span<const int32_t> ids, int64_t layers) {
  const int64_t count = static_cast<int64_t>(ids.size());
  if (sequences() != 1 || count < 1 || (waiting_rows_ > 0 && layers != depth_))
    throw internal_error("{} tokens of {} sequences cannot wait behind {} layers", count, sequences(), layers);
  const NoTape pause;
  depth_ = layers;
  Call call = model_.call(Batch({{0, state_.length(0) + waiting_rows_, count}}), state_.shape().type);
  call.trace = trace;
  waiting_.push_back(model_.run(model_.embed(ids, call), 0, layers, call, &state_));
  waiting_rows_ += count;
  return model_.finish(waiting_.back(), call).value();
}

namespace {

Var joined(const std::vector<Stream>& streams, Var Stream::*part, int64_t rows) {
  const Tensor& first = (streams.front().*part).value();
  const Tensor all = Tensor::empty({rows, first.dim(1)}, first.dtype());
  int64_t row = 0;
  for (const Stream& stream : streams) {
    copy_rows((stream.*part).value(), all, row);
    row += (stream.*part).value().dim(0);
  }
  return Var(all);
}

}  // namespace

Tensor Session::deepen(std::span<const int32_t> ids) {
  const int64_t count = static_cast<int64_t>(ids.size());
  if (count < waiting_rows_) throw internal_error("{} tokens wait, {} are named", waiting_rows_, count);
  if (count > waiting_rows_) shallow(ids.subspan(static_cast<size_t>(waiting_rows_)), depth_);
  const NoTape pause;
  const Stream stream =
      waiting_.size() == 1
          ? waiting_.front()
          : Stream{joined(waiting_, &Stream::residual, count), joined(waiting_, &Stream::branch, count), {}};
  waiting_.clear();
  waiting_rows_ = 0;
  Call call = model_.call(Batch({{0, state_.length(0), count}}), state_.shape().type);
  call.trace = trace;
  return model_.finish(model_.run(stream, depth_, model_.layers(), call, &state_), call).value();
}

void Session::truncate(int64_t sequence, int64_t tokens) {
  waiting_.clear();
  waiting_rows_ = 0;
  state_.truncate(sequence, tokens);
}

void Session::clear() {
  for (int64_t s = 0; s < sequences(); ++s) truncate(s, 0);
}

}  // namespace hone
