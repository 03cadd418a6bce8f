#include "model/session.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "kernels/awake.h"
#include "model/reading.h"
#include "model/whole_arrays.h"

namespace hone {

Session::Session(const Transformer& model, const StateShape& shape)
    : model_(model), state_(model.make_state(shape)), end_(model.layers()) {
  if (shape.sequences < 1 || shape.capacity < 1)
    throw internal_error("a session of {} sequences of {} tokens", shape.sequences, shape.capacity);
}

template <class F>
void Session::run(std::span<const Piece> pieces, int64_t chunk, F&& take) {
  go_on();
  const ReadSettings settings{.type = state_.shape().type,
                              .products = pieces.empty() ? Phase::counted : pieces.front().phase,
                              .trace = trace,
                              .layers = end_};
  for (const Piece& piece : pieces) {
    for (const int32_t id : piece.input.ids)
      if (id < 0 || id >= model_.config().vocabulary)
        throw input_error("token {} is outside the model's vocabulary of {}", id, model_.config().vocabulary);
    if (piece.input.size() == 0 || chunk < 1)
      throw internal_error("{} tokens in chunks of {}", piece.input.size(), chunk);
  }
  std::vector<int64_t> done(pieces.size(), 0);
  JoinedInput rows;
  while (true) {
    std::vector<Span> spans;
    std::vector<std::pair<size_t, int64_t>> of_spans;  // which piece each is of, and how many rows
    rows.clear();
    for (size_t i = 0; i < pieces.size(); ++i) {
      const Input& all = pieces[i].input;
      const int64_t count = std::min(all.uncut(done[i] + chunk), all.size()) - done[i];
      if (count < 1) continue;
      spans.push_back({pieces[i].sequence, length(pieces[i].sequence), count, pieces[i].phase});
      of_spans.emplace_back(i, count);
      rows.add(all, done[i], count);
    }
    if (spans.empty()) return;
    const Tensor hidden = hidden_states(model_, rows.input(), std::move(spans), settings, &state_);
    int64_t row = 0;
    for (const auto& [piece, count] : of_spans) {
      int64_t& begin = done[piece];
      take(piece, begin, hidden.rows(row, count));
      begin += count;
      row += count;
    }
  }
}

void Session::go_on() const {
  in_step(model_, [] {});
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
    if (begin + hidden.dim(0) == pieces[piece].input.size())
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
  for (size_t s = 0; s < count; ++s)
    pieces.push_back({static_cast<int64_t>(s), Input(ids.subspan(s * length, length))});
  return pieces;
}

Tensor Session::feed(std::span<const int32_t> ids, int64_t chunk) {
  return feed(whole(ids), chunk);
}

Tensor Session::hidden(std::span<const int32_t> ids, int64_t chunk) {
  if (!waiting_.empty()) return deepen(ids);
  const std::vector<Piece> pieces = whole(ids);
  const int64_t length = pieces.front().input.size();
  const Tensor all = Tensor::empty({static_cast<int64_t>(ids.size()), model_.config().block.dim}, state_.shape().type);
  run(pieces, chunk, [&](size_t piece, int64_t begin, const Tensor& hidden) {
    copy_rows(hidden, all, static_cast<int64_t>(piece) * length + begin);
  });
  return all;
}

void Session::end_behind(int64_t layers) {
  if (layers < 1 || layers > model_.layers() || begun() > 0)
    throw internal_error("a session cannot end behind {} of {} layers", layers, model_.layers());
  end_ = layers;
}

namespace {

Var joined(const std::vector<Stream>& streams, Var Stream::*part, int64_t rows) {
  if (!(streams.front().*part)) return Var();
  const Tensor& first = (streams.front().*part).value();
  const Tensor all = Tensor::empty({rows, first.dim(1)}, first.dtype());
  int64_t row = 0;
  for (const Stream& stream : streams) {
    copy_rows((stream.*part).value(), all, row);
    row += (stream.*part).value().dim(0);
  }
  return Var(all);
}

Stream rows_of(const Stream& stream, int64_t first, int64_t count) {
  return {Var(stream.residual.value().rows(first, count)),
          stream.branch ? Var(stream.branch.value().rows(first, count)) : Var(),
          {}};
}

}  // namespace

void Session::Waiting::add(Stream stream) {
  rows += stream.residual.shape()[0];
  streams.push_back(std::move(stream));
}

Stream Session::Waiting::take() {
  Stream all = streams.size() == 1
                   ? streams.front()
                   : Stream{joined(streams, &Stream::residual, rows), joined(streams, &Stream::branch, rows), {}};
  *this = {};
  return all;
}

Call Session::call_for(int64_t layer, int64_t rows) const {
  Call call = model_.call(Batch({{0, state_.length(0, layer), rows}}), state_.shape().type);
  call.trace = trace;
  return call;
}

void Session::step(Stream stream, int64_t rows, int64_t from, int64_t to) {
  const int64_t waiting = filling_ == Filling::propagated ? rows - 1 : 0;
  if (waiting > 0) {
    Stream before = rows_of(stream, 0, waiting);
    model_.remember(before, from, to, call_for(from, waiting), state_);
    waiting_[to].add(std::move(before));
    stream = rows_of(stream, waiting, rows - waiting);
  }
  waiting_[to].add(model_.run(std::move(stream), from, to, call_for(from, rows - waiting), &state_));
}

void Session::bring(int64_t layers) {
  while (!waiting_.empty() && waiting_.begin()->first < layers) {
    auto node = waiting_.extract(waiting_.begin());
    const int64_t to = waiting_.empty() ? layers : std::min(layers, waiting_.begin()->first), rows = node.mapped().rows;
    step(node.mapped().take(), rows, node.key(), to);
  }
}

Tensor Session::shallow(std::span<const int32_t> ids, int64_t layers) {
  const int64_t count = static_cast<int64_t>(ids.size());
  if (sequences() != 1 || count < 1 || layers < 1 || layers > end_ ||
      (!waiting_.empty() && waiting_.begin()->first < layers))
    throw internal_error("{} tokens of {} sequences cannot wait behind {} layers", count, sequences(), layers);
  go_on();
  const NoTape pause;
  const kernels::Awake awake(count);
  const Call call = call_for(0, count);
  const Stream stream = model_.run(model_.embed(ids, call), 0, layers, call, &state_);
  if (layers < end_) waiting_[layers].add(stream);
  return model_.read(stream, layers, call).value();
}

Tensor Session::deeper(int64_t layers) {
  if (waiting_.empty() || layers > end_ || waiting_.begin()->first >= layers)
    throw internal_error("no token waits behind fewer than {} of {} layers", layers, end_);
  go_on();
  const NoTape pause;
  const kernels::Awake awake(waiting_.begin()->second.rows);
  bring(layers);
  const Stream& last = waiting_.begin()->second.streams.back();
  const int64_t rows = last.residual.shape()[0];
  Call call = model_.call(Batch({{0, state_.length(0, layers - 1) - 1, 1}}), state_.shape().type);
  const Tensor hidden = model_.read(rows_of(last, rows - 1, 1), layers, call).value();
  if (layers == end_) waiting_.clear();
  return hidden;
}

Tensor Session::deepen(std::span<const int32_t> ids) {
  const int64_t count = static_cast<int64_t>(ids.size()), depth = waiting_.begin()->first,
                rows = waiting_.begin()->second.rows;
  if (waiting_.size() > 1 || count < rows) throw internal_error("{} tokens wait, {} are named", rows, count);
  if (count > rows) shallow(ids.subspan(static_cast<size_t>(rows)), depth);
  const NoTape pause;
  const kernels::Awake awake(count);
  const Stream stream = waiting_.begin()->second.take();
  waiting_.clear();
  const Call call = call_for(depth, count);
  return model_.read(model_.run(stream, depth, end_, call, &state_), end_, call).value();
}

void Session::truncate(int64_t sequence, int64_t tokens) {
  waiting_.clear();
  state_.truncate(sequence, tokens);
}

void Session::clear() {
  for (int64_t s = 0; s < sequences(); ++s) truncate(s, 0);
}

}  // namespace hone
