#include "model/transformer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/memory_limit.h"
#include "base/random.h"
#include "base/stop.h"
#include "base/units.h"
#include "kernels/parallel.h"
#include "model/exits.h"
#include "nn/encoders/encoder.h"
#include "nn/rope.h"
#include "ops/ranks.h"
#include "weights/dense_weight.h"

namespace hone {
namespace {

std::shared_ptr<Parameter> scale_of(Tensor numbers) {
  auto scale = std::make_shared<Parameter>();
  scale->value = std::move(numbers);
  return scale;
}

}  // namespace

Transformer::Transformer(const Config& config, const ModelRanks& ranks)
    : config_(config), ranks_(ranks), shares_(ranks.shares()) {
  check(config_);
  ranks_.check(config_);
  const BlockBlueprint& b = config_.block;
  embedding_ = std::make_shared<DenseWeight>(Tensor::promised({shares_.matrices.of(config_.padded_vocabulary), b.dim}));
  if (info_of(b.positions).learned) {
    position_ = std::make_shared<Parameter>();
    position_->value = Tensor::promised({config_.context, b.dim});
  }
  for (const std::string& name : config_.encoders)
    encoders_.push_back(std::make_shared<MediaEncoder>(encoder_kind(name), b));
  if (!config_.aligned.empty()) similarity_scale_ = scale_of(Tensor::zeros({2}));
  for (const LayerBlueprint& layer : config_.layers) {
    check_stop();
    blocks_.push_back(Block::make(b, layer, shares_));
  }
  norm_ = Norm::make(b);
  if (!config_.tied)
    head_ =
        Linear::make(config_.padded_vocabulary, b.dim, false, {}, shares_.matrices.rows({config_.padded_vocabulary}));
}

std::shared_ptr<const ops::RopeTable> Transformer::rope(int64_t positions) const {
  const std::lock_guard lock(rope_mutex_);
  if (!rope_ || rope_->positions < positions) {
    const int64_t before = rope_ ? rope_->positions : 0;
    rope_ = std::make_shared<const ops::RopeTable>(
        ops::RopeTable::make(std::max({positions, config_.context, 2 * before}), rope_frequencies(config_.block)));
  }
  return rope_;
}

Call Transformer::call(Batch batch, DType type) const {
  if (batch.end() > max_positions(config_))
    throw usage_error("a sequence of {} tokens is longer than the model's {} learned positions; use a shorter one",
                      batch.end(), config_.context);
  Call call;
  call.batch = std::move(batch);
  call.type = type;
  if (info_of(config_.block.positions).turns) call.rope = rope(call.batch.end());
  call.ranks = ranks_.group;
  return call;
}

Call Transformer::call(const Input& input, std::vector<Span> spans, DType type) const {
  if (config_.media_both_ways) {
    int64_t row = 0;
    auto part = input.parts.begin();
    for (Span& span : spans) {
      for (; part != input.parts.end() && part->row < row + span.count; ++part)
        span.together.push_back({part->row - row, part->rows()});
      row += span.count;
    }
  }
  Batch batch(std::move(spans));
  if (std::ranges::any_of(config_.layers, [](const LayerBlueprint& l) { return !l.modalities.empty(); }) &&
      !input.parts.empty()) {
    std::vector<int32_t> kinds(input.ids.size());
    for (const MediaPart& part : input.parts)
      std::fill_n(kinds.begin() + part.row, part.rows(), static_cast<int32_t>(part.encoder) + 1);
    batch.set_kinds(std::move(kinds), static_cast<int64_t>(encoders_.size()) + 1);
  }
  return call(std::move(batch), type);
}

Var Transformer::rows_of(const Input& input, const Call& call) const {
  const std::span<const int32_t> positions = call.batch.positions();
  std::vector<int32_t> all(input.ids.size()), ids, at;
  std::iota(all.begin(), all.end(), 0);
  std::vector<std::vector<const MediaPart*>> of_encoders(encoders_.size());
  int64_t row = 0;
  const auto text_until = [&](int64_t end) {
    for (; row < end; ++row) {
      ids.push_back(input.ids[static_cast<size_t>(row)]);
      at.push_back(static_cast<int32_t>(row));
    }
  };
  for (const MediaPart& part : input.parts) {
    if (part.row < row || part.row + part.rows() > input.size() || part.encoder >= encoders_.size())
      throw internal_error("a part of {} rows at {} of {}, for encoder {} of {}", part.rows(), part.row, input.size(),
                           part.encoder, encoders_.size());
    text_until(part.row);
    row = part.row + part.rows();
    of_encoders[part.encoder].push_back(&part);
  }
  text_until(input.size());
  std::vector<ops::Placed> placed;
  if (!ids.empty())
    placed.push_back(
        {divides_matrices()
             ? ops::embedding_of_parts(ids, embedding_, shares_.matrices.index * embedding_->rows(), ranks_.group)
             : ops::embedding(ids, embedding_),
         at});
  for (size_t e = 0; e < encoders_.size(); ++e)
    if (!of_encoders[e].empty()) encoders_[e]->encode(of_encoders[e], call, placed);
  if (position_) placed.push_back({Var(), all, {{position_.get(), {positions.begin(), positions.end()}}}});
  return ops::place(input.size(), config_.block.dim, std::move(placed));
}

Stream Transformer::embed(const Input& input, const Call& call) const {
  assert(input.size() == call.batch.rows());
  const bool plain = input.parts.empty() && !divides_matrices();
  const Var x =
      plain ? ops::embedding(input.ids, embedding_, call.batch.positions(), position_.get()) : rows_of(input, call);
  return {ops::dropout(x, call.noise.dropout, call.noise.at_embedding()), Var(), {}};
}

namespace {

// Halves of blocks in order, with what they add to the loss.
class Halves {
 public:
  explicit Halves(const std::vector<Block>& blocks) : blocks_(blocks) {}

  // Half `half` of the model (nn/recompute.h).
  Stream run(const Stream& in, int64_t half, const Call& call, State* state) const {
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

  // Those of a stretch that its layers have.
  std::vector<int64_t> of(const Stretch& stretch) const {
    std::vector<int64_t> halves;
    for (int64_t half = stretch.from; half < stretch.to; ++half) {
      if (blocks_[static_cast<size_t>(half / 2)].has(half % 2 != 0)) halves.push_back(half);
    }
    return halves;
  }

  // The last that has any half runs again.
  bool ends_again(const std::vector<Stretch>& stretches) const {
    for (size_t i = stretches.size(); i-- > 0;)
      if (!of(stretches[i]).empty()) return stretches[i].again;
    return false;
  }

  // Before the halves of a tape: a step that says, once the backward pass comes to it, that those of the layers from
  // this half's on are done. Not in the middle of a layer.
  void mark(int64_t half, const Call& call) const {
    BackwardObserver* const observer = call.trace.backward;
    if (!observer || !Tape::recording()) return;
    const int64_t layer = half / 2;
    if (half % 2 == 0 || !blocks_[static_cast<size_t>(layer)].has(false))
      Tape::record([observer, layer] { observer->done(layer); });
  }

  // A stretch that keeps what it computes. `own`: nobody but this loop has seen the stream.
  Stream kept(Stream stream, const std::vector<int64_t>& halves, bool own, const Call& call) const {
    for (const int64_t half : halves) {
      mark(half, call);
      Stream next = run(stream, half, call, nullptr);
      if (own) drop_branch(stream);  // the norm has added it
      stream = std::move(next);
      own = true;
    }
    return stream;
  }

  // A stretch that keeps only its beginning: one array in f32, or, where the sum so far is kept for the norm before it
  // anyway (`kept_before`), the branch beside that. Terms from before pass it by.
  Stream again(const Stream& in, const std::vector<int64_t>& halves, bool own, bool kept_before,
               const Call& call) const {
    mark(halves.front(), call);
    const bool apart = kept_before && in.branch;
    const Var begin = !apart && in.branch ? ops::sum(in.residual, in.branch) : in.residual;
    if (own && !apart) drop_branch(in);
    auto terms = std::make_shared<std::vector<LossTerm>>();
    // The call is copied: it must live until the backward pass.
    const auto forward = [self = *this, terms, halves, call](const std::vector<Var>& inputs, bool again) {
      Call mine = call;
      mine.again = again;
      if (again) mine.trace = {.attention = call.trace.attention};
      Stream stream = {inputs[0], inputs[1], {}};
      for (const int64_t half : halves) {
        mine.unread = again && half == halves.back() && mine.streams.empty();
        Stream next = self.run(stream, half, mine, nullptr);
        if (Tape::recording() && half != halves.front()) drop_branch(stream);
        stream = std::move(next);
      }
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

 private:
  static void drop_branch(const Stream& stream) {
    if (stream.branch) stream.branch.drop_value();
  }

  const std::vector<Block>& blocks_;
};

}  // namespace

Stream Transformer::run(Stream stream, int64_t from, int64_t to, const Call& call, State* state) const {
  if (state) state->require_room(call.batch, from, to);
  const Halves halves(blocks_);
  const bool records = Tape::recording() && !state;
  if (records && config_.block.parallel && !call.recompute.keeps_blocks_whole())
    throw usage_error("layers with parallel halves run again as whole blocks; recompute blocks, or nothing");
  if (!records) {
    // Nothing is kept, so nothing is cut into stretches: a token of a small model comes here.
    for (int64_t half = 2 * from; half < 2 * to; ++half)
      if (blocks_[static_cast<size_t>(half / 2)].has(half % 2 != 0)) stream = halves.run(stream, half, call, state);
    if (state) state->advance(call.batch, from, to);
    return stream;
  }
  bool own = false,
       ended_again = false;  // the stream comes from a stretch here; from one that keeps only its beginning
  for (const Stretch& stretch : call.recompute.stretches(from, to)) {
    const std::vector<int64_t> there = halves.of(stretch);
    if (there.empty()) continue;
    Stream next = stretch.again ? halves.again(stream, there, own, own && !ended_again, call)
                                : halves.kept(stream, there, own, call);
    // No step looks at what a stretch that runs again ended with: that was for the stretch after it.
    if (ended_again) stream.residual.drop_value();
    own = true;
    ended_again = stretch.again;
    stream = std::move(next);
  }
  return stream;
}

void Transformer::remember(const Stream& stream, int64_t from, int64_t to, const Call& call, State& state) const {
  state.require_room(call.batch, from, to);
  for (int64_t layer = from; layer < to; ++layer)
    blocks_[static_cast<size_t>(layer)].remember(stream, call, layer, state.layer(layer));
  state.advance(call.batch, from, to);
}

Var Transformer::finish(const Stream& stream, const Call& call) const {
  return norm_.forward(stream.residual, stream.branch, call.type).y;
}

Var Transformer::read(const Stream& stream, int64_t depth, const Call& call) const {
  const Block* block = depth < layers() ? &blocks_[static_cast<size_t>(depth) - 1] : nullptr;
  if (!block || !block->exits()) return finish(stream, call);
  return block->exit_norm.forward(stream.residual, stream.branch, call.type).y;
}

// The norm of an exit makes the sum that the next layer begins with, so that nothing is added twice.
Stream Transformer::read_exit(const Stream& in, int64_t depth, const Call& call, std::vector<ExitOutput>& exits) const {
  const Block& block = blocks_[static_cast<size_t>(depth) - 1];
  if (!block.exits()) throw internal_error("there is no exit behind {} layers", depth);
  const ops::Normed normed = block.exit_norm.forward(in.residual, in.branch, call.type);
  exits.push_back({depth, normed.y});
  if (Tape::recording() && in.branch) {
    in.branch.drop_value();
    if (Halves(blocks_).ends_again(call.recompute.stretches(0, depth))) in.residual.drop_value();
  }
  return {normed.residual, Var(), in.terms};
}

Transformer::Output Transformer::forward(const Input& input, const Call& call, State* state) const {
  Stream stream = embed(input, call);
  std::vector<ExitOutput> exits;
  int64_t from = 0;
  for (const int64_t depth : call.exits) {
    stream = read_exit(run(std::move(stream), from, depth, call, state), depth, call, exits);
    from = depth;
  }
  stream = run(std::move(stream), from, layers(), call, state);
  Output out{finish(stream, call), stream.terms, std::move(exits)};
  if (Tape::recording() && !blocks_.empty()) {  // the last norm has added them
    stream.branch.drop_value();
    if (!state && Halves(blocks_).ends_again(call.recompute.stretches(0, layers()))) stream.residual.drop_value();
  }
  return out;
}

Tensor Transformer::logits(const Tensor& hidden_rows) const {
  const int64_t rows = hidden_rows.view().rows;
  const ops::Head head = this->head();
  Tensor all = Tensor::empty({rows, head.weight->rows()});
  head.logits(hidden_rows.view(), all.view());
  if (divides_matrices()) all = ops::columns_of_parts(all, *ranks_.group);
  if (config_.padded_vocabulary == config_.vocabulary) return all;
  const Tensor cut = Tensor::empty({rows, config_.vocabulary});
  for (int64_t r = 0; r < rows; ++r)
    std::copy_n(all.data<float>() + r * config_.padded_vocabulary, config_.vocabulary,
                cut.data<float>() + r * config_.vocabulary);
  return cut;
}

ops::TokenLosses Transformer::loss(const Var& hidden, std::span<const int32_t> targets,
                                   const ops::TokenLossWeights& weights) const {
  return ops::cross_entropy_head(hidden, head(), targets, weights);
}

void Transformer::require_causal() const {
  for (size_t i = 0; i < blocks_.size(); ++i)
    if (blocks_[i].mixer && !blocks_[i].mixer->causal())
      throw usage_error(
          "layer {} is '{}', which shows tokens what follows them: it cannot predict the next one, as training, scores "
          "and generation want",
          i, config_.layers[i].attention);
}

ops::Head Transformer::head() const {
  require_causal();
  ops::Head head{config_.tied ? embedding_ : head_.weight, config_.vocabulary, config_.logit_softcap};
  if (!divides_matrices()) return head;
  head.ranks = ranks_.group;
  head.first = shares_.matrices.index * head.weight->rows();
  head.vocabulary = std::clamp<int64_t>(config_.vocabulary - head.first, 0, head.weight->rows());
  return head;
}

State Transformer::make_state(const StateShape& shape) const {
  require_causal();
  double bytes = 0;
  for (const Block& block : blocks_) bytes += block.state_bytes(shape);
  require_memory(
      bytes,
      fmt::format(
          "the key/value cache of {} tokens",
          format_count(shape.pages ? static_cast<double>(shape.pages) * static_cast<double>(shape.page_rows)
                                   : static_cast<double>(shape.sequences) * static_cast<double>(shape.capacity))),
      "ask for fewer tokens or sequences");
  State state(shape);
  for (const Block& block : blocks_) state.add_layer(block.make_state(state.shape()));
  return state;
}

void Transformer::set_attention(const std::string& kinds, int64_t context) {
  Config changed = config_;
  hone::set_attention(changed, kinds);
  changed.context = std::max(changed.context, context);
  check(changed);
  for (size_t i = 0; i < blocks_.size(); ++i)
    if (const std::string& before = config_.layers[i].attention, &after = changed.layers[i].attention;
        blocks_[i].mixer && !share_parameters(before, after))
      throw usage_error(
          "layer {} is '{}', and its parameters do not fit '{}'; name its own kind in its place, or begin a new model",
          i, before, after);
  for (size_t i = 0; i < blocks_.size(); ++i)
    if (blocks_[i].mixer) blocks_[i].mixer->configure(changed.layers[i]);
  config_.layers = changed.layers;
}

void Transformer::set_exits(std::span<const int64_t> depths) {
  Config changed = config_;
  hone::set_exits(changed, depths);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    Norm& norm = blocks_[i].exit_norm;
    if (!changed.layers[i].exit) {
      norm = Norm();
    } else if (!norm.gain) {
      norm = Norm::make(config_.block);
      norm.gain->value = norm_.gain->value.clone();
      if (norm.bias) norm.bias->value = norm_.bias->value.clone();
    }
  }
  config_.layers = changed.layers;
}

void Transformer::align(const std::vector<std::string>& media, const Tensor& scale) {
  Config changed = config_;
  changed.aligned = media;
  check(changed);
  if (!similarity_scale_) similarity_scale_ = scale_of(scale.clone());
  config_ = changed;
}

size_t Transformer::encoder_of(std::string_view medium) const {
  size_t e = 0;
  while (e < encoders_.size() && encoders_[e]->kind().medium().name != medium) ++e;
  return e;
}

void Transformer::set_context(int64_t context) {
  Config changed = config_;
  changed.context = context;
  check(changed);
  if (position_) throw internal_error("learned positions end where they end");
  config_ = changed;
}

Place Transformer::place_of_block(int64_t i) {
  return {fmt::format("blocks.{}", i), i};
}

std::string Transformer::head_name() const {
  return Place{config_.tied ? "embedding" : "head"}.info("weight", Role::head).name;
}

void Transformer::visit(Visitor& visitor) {
  ParameterInfo of_embedding = Place{"embedding"}.info("weight", Role::embedding);
  of_embedding.part = shares_.matrices.rows({config_.padded_vocabulary});
  visitor.weight(of_embedding, embedding_);
  if (position_) visitor.parameter(Place{"position"}.info("weight", Role::position), *position_);
  for (const auto& encoder : encoders_)
    encoder->visit(Place{fmt::format("encoders.{}", encoder->kind().medium().name)}, visitor);
  if (similarity_scale_) visitor.parameter(Place{"alignment"}.info("scale", Role::similarity), *similarity_scale_);
  for (size_t i = 0; i < blocks_.size(); ++i) blocks_[i].visit(place_of_block(static_cast<int64_t>(i)), visitor);
  norm_.visit(Place{"norm"}, NormOf::last, visitor);
  if (!config_.tied) head_.visit(Place{"head"}, Role::head, visitor);
}

void Transformer::visit(Reader& reader) const {
  struct Shown : Visitor {
    explicit Shown(Reader& to) : to_(to) {}
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override { to_.weight(info, *weight); }
    void parameter(const ParameterInfo& info, Parameter& parameter) override { to_.parameter(info, parameter); }
    void begin_experts(int64_t experts, int64_t active) override { to_.begin_experts(experts, active); }
    void end_experts() override { to_.end_experts(); }
    Reader& to_;
  } shown(reader);
  const_cast<Transformer*>(this)->visit(shown);  // which shows everything as const: one order for both
}

}  // namespace hone
