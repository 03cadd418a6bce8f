#include "model/transformer.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "base/memory_limit.h"
#include "base/stop.h"
#include "base/units.h"
#include "kernels/awake.h"
#include "model/exits.h"
#include "model/half_blocks.h"
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
  if (has_weights_by_kind(config_) && input.by_kind) {
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

Stream Transformer::run(Stream stream, int64_t from, int64_t to, const Call& call, State* state) const {
  if (state) state->require_room(call.batch, from, to);
  if (Tape::recording() && !state && config_.block.parallel && !call.recompute.keeps_blocks_whole())
    throw usage_error("layers with parallel halves run again as whole blocks; recompute blocks, or nothing");
  stream = HalfBlocks(blocks_).run(std::move(stream), from, to, call, state);
  if (state) state->advance(call.batch, from, to);
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
    if (HalfBlocks(blocks_).end_again(depth, call)) in.residual.drop_value();
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
    if (!state && HalfBlocks(blocks_).end_again(layers(), call)) stream.residual.drop_value();
  }
  return out;
}

Tensor Transformer::logits(const Tensor& hidden_rows) const {
  const int64_t rows = hidden_rows.view().rows;
  const kernels::Awake awake(rows);
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
