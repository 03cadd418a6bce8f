#include "model/half_blocks.h"

#include "base/stop.h"
#include "ops/linear.h"

namespace hone {
namespace {

// Once the norm behind it has added it.
void drop_branch(const Stream& stream) {
  if (stream.branch) stream.branch.drop_value();
}

}  // namespace

// Without the halves at its ends that their layers lack; empty where they lack all.
Stretch HalfBlocks::trimmed(Stretch stretch) const {
  while (stretch.from < stretch.to && !has(stretch.from)) ++stretch.from;
  while (stretch.from < stretch.to && !has(stretch.to - 1)) --stretch.to;
  return stretch;
}

Stream HalfBlocks::run_half(const Stream& in, int64_t half, const Call& call, State* state) const {
  const int64_t layer = half / 2;
  const Block& block = blocks_[static_cast<size_t>(layer)];
  const bool feeds = half % 2 != 0;
  LayerState* const remembered = state ? state->layer(layer) : nullptr;
  if (!feeds || block.router) check_stop();
  Stream out = block.router ? block.forward(in, call, layer, remembered)
               : feeds      ? block.feed(in, call, layer)
                            : block.mix(in, call, layer, remembered);
  if (feeds || !block.feed_forward)
    for (StreamObserver* observer : call.streams) observer->behind(layer, out);
  return out;
}

// Before the halves of a tape: a step that says, once the backward pass comes to it, that those of the layers from this
// half's on are done. Not in the middle of a layer.
void HalfBlocks::mark(int64_t half, const Call& call) const {
  BackwardObserver* const observer = call.trace.backward;
  if (!observer) return;
  const int64_t layer = half / 2;
  if (half % 2 == 0 || !blocks_[static_cast<size_t>(layer)].has(false))
    Tape::record([observer, layer] { observer->done(layer); });
}

// All that it computes is kept, if there is a tape. `own`: nobody but this loop has seen the stream.
Stream HalfBlocks::run_stretch(Stream stream, const Stretch& stretch, bool own, const Call& call, State* state) const {
  const bool records = Tape::recording() && !state;
  for (int64_t half = stretch.from; half < stretch.to; ++half) {
    if (!has(half)) continue;
    if (records) mark(half, call);
    Stream next = run_half(stream, half, call, state);
    if (records && own) drop_branch(stream);
    stream = std::move(next);
    own = true;
  }
  return stream;
}

// A stretch, with halves at both its ends, of which only the beginning is kept: one array in f32, or, where the sum so
// far is kept for the norm before it anyway (`kept_before`), the branch beside that. Terms from before pass it by.
Stream HalfBlocks::run_again(const Stream& in, const Stretch& stretch, bool own, bool kept_before,
                             const Call& call) const {
  mark(stretch.from, call);
  const bool apart = kept_before && in.branch;
  const Var begin = !apart && in.branch ? ops::sum(in.residual, in.branch) : in.residual;
  if (own && !apart) drop_branch(in);
  auto terms = std::make_shared<std::vector<LossTerm>>();
  // The call is copied: it must live until the backward pass.
  const auto forward = [self = *this, terms, stretch, call](const std::vector<Var>& inputs, bool again) {
    Call mine = call;
    mine.again = again;
    if (again) mine.trace = {.attention = call.trace.attention};
    const int64_t last = stretch.to - 1;
    Stream stream = self.run_stretch({inputs[0], inputs[1], {}}, {stretch.from, last}, false, mine, nullptr);
    mine.unread = again && mine.streams.empty();
    stream = self.run_stretch(std::move(stream), {last, stretch.to}, last > stretch.from, mine, nullptr);
    if (!again) *terms = stream.terms;
    std::vector<Var> all = {stream.residual, stream.branch};
    for (const LossTerm& term : stream.terms) all.push_back(term.value);
    return all;
  };
  const std::vector<Var> outputs = recompute(forward, {begin, apart ? in.branch : Var()});
  Stream out{outputs[0], outputs[1], in.terms};
  for (size_t i = 0; i < terms->size(); ++i) {
    out.terms.push_back(std::move((*terms)[i]));
    out.terms.back().value = outputs[2 + i];
  }
  terms->clear();
  return out;
}

Stream HalfBlocks::run(Stream stream, int64_t from, int64_t to, const Call& call, State* state) const {
  if (state || !Tape::recording()) return run_stretch(std::move(stream), {2 * from, 2 * to}, false, call, state);
  bool own = false;          // the stream comes from a stretch of this call
  bool ended_again = false;  // from one that keeps only its beginning
  for (const Stretch& cut : call.recompute.stretches(from, to)) {
    const Stretch stretch = trimmed(cut);
    if (stretch.from == stretch.to) continue;
    Stream next = stretch.again ? run_again(stream, stretch, own, own && !ended_again, call)
                                : run_stretch(stream, stretch, own, call, nullptr);
    // No step looks at what a stretch that runs again ended with: that was for the stretch after it.
    if (ended_again) stream.residual.drop_value();
    own = true;
    ended_again = stretch.again;
    stream = std::move(next);
  }
  return stream;
}

bool HalfBlocks::end_again(int64_t to, const Call& call) const {
  const std::vector<Stretch> stretches = call.recompute.stretches(0, to);
  for (size_t i = stretches.size(); i-- > 0;) {
    const Stretch stretch = trimmed(stretches[i]);
    if (stretch.from < stretch.to) return stretch.again;
  }
  return false;
}

}  // namespace hone
