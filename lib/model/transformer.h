// A decoder-only transformer: embedding, blocks, norm, head.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

#include "model/division.h"
#include "model/input.h"
#include "nn/block.h"
#include "ops/cross_entropy.h"

namespace hone {

class MediaEncoder;

// What is read behind the first `depth` layers.
struct ExitOutput {
  int64_t depth;
  Var hidden;  // [rows, dim] of call.type, for the head
};

// Everything that only reads is const, and may run in several threads at once on one model.
class Transformer {
 public:
  // Gains are 1 and biases 0; the weights hold nothing, and take no memory, until initialize() or load_model() sets
  // them.
  // With several `ranks` each has a part, and all call what computes together (model/divisions/). Error(usage) where
  // they do not divide such a model.
  explicit Transformer(const Config& config, const ModelRanks& ranks = {});
  Transformer(const Transformer&) = delete;
  Transformer& operator=(const Transformer&) = delete;

  const Config& config() const { return config_; }  // of the whole
  // Who has the other parts; null: nobody.
  const std::shared_ptr<Communicator>& ranks() const { return ranks_.group; }
  const ModelRanks& model_ranks() const { return ranks_; }
  int64_t layers() const { return static_cast<int64_t>(blocks_.size()); }

  // A call for these tokens, with what the model adds to it; noise, routers and trace are the caller's to set. Throws
  // Error(usage) when learned positions end before the batch does.
  Call call(Batch batch, DType type) const;
  // The same for spans of these rows, whose parts see both ways where the model's do (Span::together).
  Call call(const Input& input, std::vector<Span> spans, DType type) const;

  // The three parts of a forward: the batch's rows, each id below the padded vocabulary, into a stream; the stream
  // through blocks from … to - 1; hidden states after the last norm, [rows, dim] of call.type. With a state, the
  // batch's spans continue the sequences in these blocks (State::require_room() says what it throws), and count as seen
  // by them afterwards.
  Stream embed(const Input& input, const Call& call) const;
  Stream run(Stream stream, int64_t from, int64_t to, const Call& call, State* state = nullptr) const;
  Var finish(const Stream& stream, const Call& call) const;
  // The same behind the first `depth` layers: through the norm of the exit there, or else through the last.
  Var read(const Stream& stream, int64_t depth, const Call& call) const;
  // In place of run(): what the layers would remember of a stream that goes on as it is, so that keys and values are
  // those of a hidden state that is propagated (CALM, Schuster et al., arXiv 2207.07061, section 3.2).
  void remember(const Stream& stream, int64_t from, int64_t to, const Call& call, State& state) const;

  // All three.
  struct Output {
    Var hidden;
    std::vector<LossTerm> terms;    // what modules add to the training loss
    std::vector<ExitOutput> exits;  // of Call::exits
  };
  Output forward(const Input& input, const Call& call, State* state = nullptr) const;
  Var hidden(const Input& input, const Call& call, State* state = nullptr) const {
    return forward(input, call, state).hidden;
  }

  // Logits of rows of hidden(), f32 [rows, vocabulary].
  Tensor logits(const Tensor& hidden_rows) const;

  // Mean next-token loss, see ops/cross_entropy.h.
  ops::TokenLosses loss(const Var& hidden, std::span<const int32_t> targets,
                        const ops::TokenLossWeights& weights = {}) const;

  // Throws Error(usage) where a layer shows a token what follows it: such a model predicts no next tokens, and can be
  // read by no state. head(), and what rests on it (logits, losses), and make_state() throw the same.
  void require_causal() const;

  // Room for what each layer has to remember. Throws Error(usage) where that is more than this machine's memory, and as
  // require_causal().
  State make_state(const StateShape& shape) const;

  // Gives the layers other kinds of attention, see mixer_by_layer(); the parameters stay. Throws Error(usage) for
  // kinds that do not fit the model's context, or `context` if that is longer, and where a layer's parameters fit no
  // such kind.
  void set_attention(const std::string& kinds, int64_t context = 0);
  // Exits behind so many layers (model/exits.h), and no others: those that are there stay, a new one's norm begins as
  // the last norm is. Throws Error(usage) where there is no such layer.
  void set_exits(std::span<const int64_t> depths);
  // Routers that let only a fraction of the tokens through these layers (model/depth_routers.h), and no others: those
  // that are there stay, a new one begins as initialize() would have it. Throws Error(usage) as set_depth_routers().
  void set_depth_routers(std::span<const int64_t> layers, double fraction, uint64_t seed);
  // Two media, by name, whose pooled representations training lets meet, and the numbers that the scale of their
  // similarities begins with (ops/contrastive.h): a model that has one keeps its numbers. Throws Error(usage) for media
  // that the model has no encoder for.
  void align(const std::vector<std::string>& media, const Tensor& scale);
  // Without learned positions, the longest sequence it is made for.
  void set_context(int64_t context);

  // Every weight and parameter once, in a fixed order, under the names of the model file.
  void visit(Visitor& visitor);
  void visit(Reader& reader) const;

  std::vector<Block>& blocks() { return blocks_; }
  const std::vector<Block>& blocks() const { return blocks_; }
  static Place place_of_block(int64_t i);  // as visit() names it
  const std::vector<std::shared_ptr<MediaEncoder>>& encoders() const { return encoders_; }
  const std::shared_ptr<Parameter>& similarity_scale() const { return similarity_scale_; }  // null: nothing is aligned
  size_t encoder_of(std::string_view medium) const;  // its place among the encoders; their number: there is none
  const std::shared_ptr<Weight>& embedding() const { return embedding_; }
  const Norm& last_norm() const { return norm_; }  // before the head
  std::string head_name() const;                   // of head(), as visit() names it
  ops::Head head() const;

 private:
  bool divides_matrices() const { return shares_.matrices.count > 1; }
  Stream read_exit(const Stream& in, int64_t depth, const Call& call, std::vector<ExitOutput>& exits) const;
  std::shared_ptr<const ops::RopeTable> rope(int64_t positions) const;
  Var rows_of(const Input& input, const Call& call) const;  // of text and of parts, put together

  Config config_;
  ModelRanks ranks_;
  Shares shares_;
  std::shared_ptr<Weight> embedding_;
  std::shared_ptr<Parameter> position_;  // null unless positions are learned
  std::vector<std::shared_ptr<MediaEncoder>> encoders_;
  std::shared_ptr<Parameter> similarity_scale_;  // [2]
  std::vector<Block> blocks_;
  Norm norm_;
  Linear head_;
  mutable std::mutex rope_mutex_;
  mutable std::shared_ptr<const ops::RopeTable> rope_;  // the longest so far; guarded by the mutex
};

// As GPT-2 (Radford et al. 2019), whatever the width. 1 / sqrt(dim) (LeCun et al. 1998, "Efficient BackProp", section
// 4.6) trains narrow models faster, but leaves more of what training did not need among the large weights, so that they
// lose more by pruning (docs/results, "Initial deviation and pruning").
inline constexpr double init_deviation = 0.02;

// Weights normal with that deviation (or the one given), output projections of branches divided by sqrt(2 * layers) as
// in GPT-2; positions and routers with 0.02; biases 0.
void initialize(Transformer& model, uint64_t seed, double deviation = init_deviation);

}  // namespace hone
