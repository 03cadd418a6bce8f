// A decoder-only transformer: embedding, blocks, norm, head.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "model/config.h"
#include "nn/block.h"
#include "ops/cross_entropy.h"

namespace hone {

class Transformer {
 public:
  // Gains are 1 and biases 0; the weights hold nothing (and take no memory) until initialize() or load_model() sets
  // them.
  explicit Transformer(const Config& config);
  Transformer(const Transformer&) = delete;
  Transformer& operator=(const Transformer&) = delete;

  const Config& config() const { return config_; }

  // Hidden states after the last norm, [batch * length, dim] of call.type. `ids` has batch * length entries, sequence
  // after sequence; each below the padded vocabulary. Fills call.positions: from 0, or from where the cache stands.
  // Throws Error(usage) when learned positions or the cache would be overrun.
  Var hidden(std::span<const int32_t> ids, Forward& call) { return run(ids, call).hidden; }
  // The same with what modules add to the training loss: [1] f32, empty where there is nothing.
  struct Output {
    Var hidden, loss;
  };
  Output run(std::span<const int32_t> ids, Forward& call);

  // Logits of rows of hidden(), f32 [rows, vocabulary].
  Tensor logits(const Tensor& hidden_rows) const;

  // Mean next-token loss, see ops/cross_entropy.h.
  ops::TokenLosses loss(const Var& hidden, std::span<const int32_t> targets, float seed = 1.0f);

  // Room for `capacity` tokens of each sequence, in each layer as much of it as its kind of attention needs. Throws
  // Error(usage) for a cache that is larger than this machine's memory.
  Cache make_cache(int64_t batch, int64_t capacity, DType type) const;

  // Gives the layers other kinds of attention, see attention_by_layer(); the parameters stay. Throws Error(usage) for
  // kinds that do not fit the model's context, or `context` if that is longer.
  void set_attention(const std::string& kinds, int64_t context = 0);
  // With rotary positions, the longest sequence it is made for.
  void set_context(int64_t context);

  // Every weight and parameter once, in a fixed order, under the names of the model file.
  void visit(Visitor& visitor);

  std::vector<Block>& blocks() { return blocks_; }
  std::shared_ptr<Weight>& embedding() { return embedding_; }
  std::shared_ptr<Weight> head() const { return config_.tied ? embedding_ : head_.weight; }

  // The two halves of hidden(), for calibration block by block.
  Stream embed(std::span<const int32_t> ids, Forward& call);
  Var finish(const Stream& stream, Forward& call);

 private:
  Config config_;
  std::shared_ptr<Weight> embedding_;
  std::optional<Parameter> position_;
  std::vector<Block> blocks_;
  Norm norm_;
  Linear head_;
  ops::RopeTable rope_;
};

// As GPT-2 (Radford et al. 2019), whatever the width. 1 / sqrt(dim) (LeCun et al. 1998, "Efficient BackProp", section
// 4.6) trains narrow models faster, but leaves more of what training did not need among the large weights, so that they
// lose more by pruning (docs/results, "Initial deviation and pruning").
inline constexpr double init_deviation = 0.02;

// Weights normal with that deviation (or the one given), output projections of branches divided by sqrt(2 * layers) as
// in GPT-2; positions and routers with 0.02; biases 0.
void initialize(Transformer& model, uint64_t seed, double deviation = init_deviation);

}  // namespace hone
