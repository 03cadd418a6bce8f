#include "model/transformer.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/memory_limit.h"
#include "base/stop.h"
#include "kernels/parallel.h"
#include "model/size.h"
#include "weights/dense_weight.h"

namespace hone {

Transformer::Transformer(const Config& config) : config_(config) {
  check(config_);
  const BlockBlueprint& b = config_.block;
  embedding_ = std::make_shared<DenseWeight>(Tensor::empty({config_.padded_vocabulary, b.dim}));
  if (b.positions == PositionKind::learned) position_.emplace().value = Tensor::empty({config_.context, b.dim});
  for (const LayerBlueprint& layer : config_.layers) {
    check_stop();
    blocks_.push_back(Block::make(b, layer));
  }
  norm_ = Norm::make(b);
  if (!config_.tied) head_ = Linear::make(config_.padded_vocabulary, b.dim, false);
}

Stream Transformer::embed(std::span<const int32_t> ids, Forward& call) {
  assert(static_cast<int64_t>(ids.size()) == call.batch * call.length);
  int64_t last = 0;
  call.positions.resize(ids.size());
  for (int64_t s = 0; s < call.batch; ++s) {
    const int64_t start = call.cache ? call.cache->lengths[static_cast<size_t>(s)] : 0;
    last = std::max(last, start + call.length);
    for (int64_t t = 0; t < call.length; ++t)
      call.positions[static_cast<size_t>(s * call.length + t)] = static_cast<int32_t>(start + t);
  }
  if (call.cache && last > call.cache->capacity)
    throw usage_error("a sequence of {} tokens does not fit a cache of {}", last, call.cache->capacity);
  if (position_ && last > config_.context)
    throw usage_error("a sequence of {} tokens is longer than the model's {} learned positions; use a shorter one",
                      last, config_.context);
  if (config_.block.positions == PositionKind::rotary) {
    if (rope_.positions < last)
      rope_ = ops::RopeTable::make(std::max({last, config_.context, 2 * rope_.positions}), config_.block.head_dim,
                                   config_.block.rope_theta);
    call.rope = &rope_;
  }
  const Var x = ops::embedding(ids, embedding_, call.positions, position_ ? &*position_ : nullptr);
  return {ops::dropout(x, call.dropout, call.next_dropout()), Var(), Var()};
}

Var Transformer::finish(const Stream& stream, Forward& call) {
  return norm_.forward(stream.residual, stream.branch, call.type).y;
}

Transformer::Output Transformer::run(std::span<const int32_t> ids, Forward& call) {
  Stream stream = embed(ids, call);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    check_stop();
    call.layer = static_cast<int64_t>(i);
    stream = blocks_[i].forward(stream, call, call.cache ? &call.cache->layers[i] : nullptr);
  }
  if (call.cache)
    for (int64_t& length : call.cache->lengths) length += call.length;
  return {finish(stream, call), stream.loss};
}

Tensor Transformer::logits(const Tensor& hidden_rows) const {
  const int64_t rows = hidden_rows.view().rows;
  const Tensor all = Tensor::empty({rows, config_.padded_vocabulary});
  head()->matmul(hidden_rows.view(), all.view());
  if (config_.padded_vocabulary == config_.vocabulary) return all;
  const Tensor cut = Tensor::empty({rows, config_.vocabulary});
  for (int64_t r = 0; r < rows; ++r)
    std::copy_n(all.data<float>() + r * config_.padded_vocabulary, config_.vocabulary,
                cut.data<float>() + r * config_.vocabulary);
  return cut;
}

ops::TokenLosses Transformer::loss(const Var& hidden, std::span<const int32_t> targets, float seed) {
  return ops::cross_entropy_head(hidden, head(), config_.vocabulary, targets, seed);
}

Cache Transformer::make_cache(int64_t batch, int64_t capacity, DType type) const {
  require_cache_memory(config_, batch, capacity, type);
  Cache cache;
  cache.capacity = capacity;
  cache.lengths.assign(static_cast<size_t>(batch), 0);
  for (const Block& block : blocks_) {
    const Attention& a = block.attention;
    cache.layers.emplace_back(a.pattern->need(), batch, a.kv_heads, a.head_dim, capacity, type);
  }
  return cache;
}

void Transformer::set_attention(const std::string& kinds, int64_t context) {
  Config changed = config_;
  hone::set_attention(changed, kinds);
  changed.context = std::max(changed.context, context);
  check(changed);
  for (size_t i = 0; i < blocks_.size(); ++i)
    blocks_[i].attention.pattern = attention_pattern(changed.layers[i].attention);
  config_.layers = changed.layers;
}

void Transformer::set_context(int64_t context) {
  Config changed = config_;
  changed.context = context;
  check(changed);
  if (position_) throw internal_error("learned positions end where they end");
  config_ = changed;
}

void Transformer::visit(Visitor& visitor) {
  visitor.weight("embedding.weight", embedding_, nullptr);
  if (position_) visitor.parameter("position.weight", *position_);
  for (size_t i = 0; i < blocks_.size(); ++i) blocks_[i].visit(fmt::format("blocks.{}", i), visitor);
  norm_.visit("norm", visitor);
  if (!config_.tied) head_.visit("head", visitor);
}

namespace {

class Initializer : public Visitor {
 public:
  Initializer(size_t layers, double deviation)
      : deviation_(deviation), branch_(deviation / std::sqrt(2.0 * static_cast<double>(layers))) {}

  void weight(const std::string& name, std::shared_ptr<Weight>& weight, Linear*) override {
    const bool ends_branch = name.ends_with("attention.output.weight") || name.ends_with("down.weight");
    add(name, *weight->parameter(), ends_branch ? branch_ : deviation_);
  }

  void parameter(const std::string& name, Parameter& parameter) override {
    constexpr double small = 0.02;
    if (name == "position.weight" || name.ends_with("router.weight")) add(name, parameter, small);
  }

  double bytes() const {
    double sum = 0;
    for (const Piece& piece : pieces_) sum += static_cast<double>(piece.values.size_bytes());
    return sum;
  }

  // A stream for each parameter: its numbers depend neither on the other layers nor on the threads.
  void fill(uint64_t seed) const {
    kernels::parallel_each(static_cast<int64_t>(pieces_.size()), [&](int64_t i) {
      const Piece& piece = pieces_[static_cast<size_t>(i)];
      Random random(seed, "init:" + piece.name);
      for (size_t done = 0; done < piece.values.size() && !stop_wanted(); done += at_once)
        for (float& w : piece.values.subspan(done, std::min(at_once, piece.values.size() - done)))
          w = static_cast<float>(random.normal() * piece.deviation);
    });
    check_stop();
  }

 private:
  static constexpr size_t at_once = 1 << 16;  // numbers between two looks at signals

  struct Piece {
    std::string name;
    std::span<float> values;
    double deviation;
  };

  void add(const std::string& name, Parameter& parameter, double deviation) {
    if (parameter.value.promised()) return;
    pieces_.push_back({name, parameter.value.span<float>(), deviation});
    ++parameter.version;
  }

  double deviation_, branch_;
  std::vector<Piece> pieces_;
};

}  // namespace

void initialize(Transformer& model, uint64_t seed, double deviation) {
  const Config& config = model.config();
  Initializer initializer(config.layers.size(), deviation);
  model.visit(initializer);
  require_memory(initializer.bytes(), "initializing the model", "choose a smaller shape");
  initializer.fill(seed);
}

}  // namespace hone
