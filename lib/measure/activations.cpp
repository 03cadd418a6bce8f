#include "measure/activations.h"

#include <algorithm>
#include <vector>

#include "nn/depth_router.h"
#include "nn/encoders/encoder.h"
#include "nn/mixer.h"
#include "ops/head_loss.h"
#include "tensor/pool.h"

namespace hone {
namespace {

double number(int64_t n) {
  return static_cast<double>(n);
}

// Of one half block, in blocks of the pool: what it adds to what is kept for its backward pass, beside the sum of the
// stream, and the most that the backward pass takes beside all that while it runs.
struct HalfBytes {
  double kept = 0, backward = 0;
};

// Arrays of one batch, in blocks of the pool.
class Arrays {
 public:
  Arrays(const Config& config, const TrainingShape& shape)
      : config_(config),
        rows_(number(shape.batch) * number(shape.context)),
        unit_(number(static_cast<int64_t>(size_of(shape.type)))),
        capacity_(shape.capacity),
        experts_elsewhere_(shape.expert_ranks > 1),
        batch_(number(shape.batch)),
        context_(shape.context) {}

  double rows() const { return rows_; }
  double stream() const { return floats(config_.block.dim); }  // of the residual stream: f32
  double branch() const { return values(config_.block.dim); }  // what is added to it, or its norm
  double norm() const { return branch() + 2 * floats(1); }     // with what its backward pass divides by
  double values(int64_t width) const { return block(rows_ * unit_ * number(width)); }
  double floats(int64_t width) const { return block(4 * rows_ * number(width)); }
  double block(double bytes) const { return pool_block_bytes(bytes); }

  // Normalized row, and what the mixer keeps. Backward: the gradients of the stream, of what goes into the last product,
  // and of what the first one gave or of the branch.
  HalfBytes mixer(const LayerBlueprint& layer) const {
    const ShapesOnly shapes;
    const MixerArrays arrays = Mixer::make(config_.block, layer)->training_arrays();
    HalfBytes half = {norm(), stream() + values(arrays.out) + std::max(values(arrays.into), branch())};
    for (const int64_t width : arrays.kept) half.kept += values(width);
    for (const int64_t width : arrays.kept_f32) half.kept += floats(width);
    if (layer.own_projections().empty()) return half;
    // Rows sorted by their kind before each product, and the norm before its gains.
    half.kept += 2 * branch() + values(arrays.out);
    half.backward += std::max(values(arrays.out), branch());
    return half;
  }

  // Normalized row; what `up` gives, and the activation of it. Backward: the gradients of the stream, of the activation,
  // and of the branch or the norm; that of what `up` gave lies in its memory.
  HalfBytes feed_forward(const LayerBlueprint& layer) const {
    if (layer.experts > 0) return mixture(layer);
    const double up = values(gates() * layer.ffn), active = values(layer.ffn);
    const bool kinds = !layer.own_feed_forwards().empty();
    return {norm() + up + active + (kinds ? branch() + active : 0) + (layer.own_projections().empty() ? 0 : branch()),
            stream() + active + branch() + (kinds ? active : 0)};
  }

  HalfBytes half(int64_t i) const {
    const LayerBlueprint& layer = config_.layers[static_cast<size_t>(i / 2)];
    if (layer.depth_fraction > 0) return i % 2 == 0 ? HalfBytes{} : passed_in_part(layer);
    if (i % 2 == 0) return layer.mixes() ? mixer(layer) : HalfBytes{};
    return layer.feeds() ? feed_forward(layer) : HalfBytes{};
  }
  bool has(int64_t i) const {
    const LayerBlueprint& layer = config_.layers[static_cast<size_t>(i / 2)];
    if (layer.depth_fraction > 0) return i % 2 != 0;  // as one half
    return i % 2 == 0 ? layer.mixes() : layer.feeds();
  }

  // Logits of some rows, which exist in the forward pass alone.
  double logits() const {
    const auto most = static_cast<int64_t>(std::min(rows_, 1e15));
    const double at_once = std::min(rows_, number(ops::head_chunk_rows(most, config_.padded_vocabulary)));
    return number(ops::head_chunk_arrays(config_.logit_softcap)) *
           block(at_once * unit_ * number(config_.padded_vocabulary));
  }

 private:
  int64_t gates() const { return info_of(config_.block.activation).gated ? 2 : 1; }

  // Beside the norm: scores, choices and weights of the router; the rows of each expert go in and come out, and each has
  // its own row inside. The gradients of neighbouring steps exist together, and that of the sum for shared experts.
  HalfBytes mixture(const LayerBlueprint& layer) const {
    const double slots = rows_ * number(layer.top_k) * std::min(capacity_ > 0 ? capacity_ : 1, 1.0);
    const auto of_slots = [&](int64_t width) { return block(slots * unit_ * number(width)); };
    const double row = of_slots(config_.block.dim), up = of_slots(gates() * layer.ffn), active = of_slots(layer.ffn);
    HalfBytes half = {norm() + floats(layer.experts) + 4 * floats(layer.top_k) + 2 * row + up + active, stream()};
    // On their way to other ranks, slots stand beside a block for each rank and what is made of these there. On the way
    // back forward there are as many, without a gradient of the stream.
    const double on_way = experts_elsewhere_ ? 3 * row : 0;
    half.backward += std::max({branch() + row, active + row, on_way});
    if (layer.shared_experts == 0) return half;
    half.kept += values(gates() * layer.shared_experts * layer.ffn) + values(layer.shared_experts * layer.ffn);
    half.backward += branch();
    if (layer.shared_gate) half.kept += branch() + 3 * floats(1);  // what is weighted; weights, and rows in their order
    return half;
  }

  // A layer with a router of depth: its norm, gates, places and predictor; then both halves for the rows that go
  // through, and what they add. The gradient of the stream is there meanwhile, in the end once more.
  HalfBytes passed_in_part(const LayerBlueprint& layer) const {
    Arrays some = *this;
    some.rows_ = batch_ * number(passing_tokens(context_, layer.depth_fraction));
    const HalfBytes none, mixed = layer.mixes() ? some.mixer(layer) : none,
                          fed = layer.feeds() ? some.feed_forward(layer) : none;
    const double sum = layer.mixes() && layer.feeds() ? some.stream() : 0;
    HalfBytes half;
    half.kept = norm() + 3 * floats(1) + some.floats(1) + floats(depth_predictor_width) + some.stream() + mixed.kept +
                sum + fed.kept + some.branch();
    half.backward = stream() + std::max({some.branch() + fed.backward, mixed.backward - sum - fed.kept,
                                         stream() + some.stream() - mixed.kept - sum - fed.kept});
    return half;
  }

  const Config& config_;
  double rows_, unit_, capacity_;
  bool experts_elsewhere_;
  double batch_;
  int64_t context_;
};

// Multiplications and additions of a row with the matrices of a module.
struct Products : Visitor {
  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    if (!is_linear(info.role) || info.kind > 0) return;  // a row goes through one kind
    const double flops = 2 * number(weight->rows()) * number(weight->cols());
    all += flops;
    if (ends_branch(info.role)) last += flops;
  }
  void parameter(const ParameterInfo&, Parameter&) override {}
  double all = 0, last = 0;  // last: with that whose product is added to the stream
};

int64_t layers_of(const Config& config) {
  return static_cast<int64_t>(config.layers.size());
}

// The steps of Transformer::run and of the tape, as far as they take and give back memory.
class Step {
 public:
  Step(const Config& config, const TrainingShape& shape) : arrays_(config, shape), exits_(shape.exits) {
    for (const Stretch& stretch : shape.recompute.stretches(0, layers_of(config))) {
      std::vector<int64_t> halves;
      for (int64_t half = stretch.from; half < stretch.to; ++half)
        if (arrays_.has(half)) halves.push_back(half);
      if (!halves.empty()) stretches_.push_back({std::move(halves), stretch.again});
    }
  }

  double most() {
    forward();
    backward();
    return most_;
  }

 private:
  struct Halves {
    std::vector<int64_t> halves;
    bool again;
  };

  bool kept_before(size_t i) const { return i > 0 && !stretches_[i - 1].again; }
  // The first half adds no branch to the embedding, nor the first of a stretch to a sum that was kept for it.
  bool adds(size_t i, size_t half) const { return half > 0 || (stretches_[i].again ? kept_before(i) : i > 0); }
  double of_half(size_t i, size_t half) const {
    return arrays_.half(stretches_[i].halves[half]).kept + (adds(i, half) ? arrays_.stream() : 0);
  }

  // What each stretch leaves behind, then the last norm and the head, with what exits gave or its gradient.
  void forward() {
    before_ = {arrays_.stream()};
    for (size_t i = 0; i < stretches_.size(); ++i) {
      double left = 0;
      if (!stretches_[i].again)
        for (size_t half = 0; half < stretches_[i].halves.size(); ++half) left += of_half(i, half);
      else if (i > 0)
        left = kept_before(i) ? arrays_.branch() : arrays_.stream();
      before_.push_back(before_.back() + left);
    }
    const double branch = arrays_.branch(), last = before_.back() + arrays_.stream() + arrays_.norm();
    const bool ended_again = !stretches_.empty() && stretches_.back().again;
    most_ = std::max({last + branch + (ended_again ? arrays_.stream() : 0), last + branch + arrays_.logits(),
                      last + arrays_.stream() + 2 * branch}) +
            number(exits_) * branch;
  }

  // From the last stretch to the first: one that runs again has all its halves once more.
  void backward() {
    for (size_t i = stretches_.size(); i-- > 0;) {
      double held = stretches_[i].again ? before_[i + 1] : before_[i];
      for (size_t half = 0; half < stretches_[i].halves.size(); ++half) {
        held += of_half(i, half);
        most_ = std::max(most_, held + arrays_.half(stretches_[i].halves[half]).backward);
      }
    }
  }

  Arrays arrays_;
  int64_t exits_;
  std::vector<Halves> stretches_;
  std::vector<double> before_;
  double most_ = 0;
};

// What layers of encoders keep until the backward pass comes to the embedding: at most, as if all rows were one kind's.
double encoder_bytes(const Config& config, const TrainingShape& shape) {
  const Arrays arrays(config, shape);
  double most = 0;
  for (const std::string& name : config.encoders) {
    double kept = 0;
    for (const LayerBlueprint& layer : encoder_layers(name, config.block))
      kept += 2 * arrays.stream() + arrays.mixer(layer).kept + arrays.feed_forward(layer).kept;
    most = std::max(most, kept);
  }
  return most;
}

}  // namespace

double activation_bytes(const Config& config, const TrainingShape& shape) {
  return Step(config, shape).most() + encoder_bytes(config, shape);
}

double recomputed_flops(const Config& config, const TrainingShape& shape) {
  const double dim = number(config.block.dim), context = number(shape.context);
  const ShapesOnly shapes;
  double a_row = 0;
  for (const Stretch& stretch : shape.recompute.stretches(0, layers_of(config))) {
    if (!stretch.again) continue;
    for (int64_t half = stretch.from; half < stretch.to; ++half) {
      const LayerBlueprint& layer = config.layers[static_cast<size_t>(half / 2)];
      const bool last = half + 1 == stretch.to;  // whose last product nobody reads
      const auto mixing = [&](int64_t tokens, bool unread) {
        if (!layer.mixes()) return 0.0;
        const std::unique_ptr<Mixer> mixer = Mixer::make(config.block, layer);
        Products products;
        mixer->visit({}, products);
        return products.all - (unread ? products.last : 0) + mixer->flops(tokens / 2);
      };
      const auto feeding = [&](bool unread) {
        const double in = info_of(config.block.activation).gated ? 2 : 1;
        const double widths = number(layer.ffn) * number(layer.experts > 0 ? layer.top_k + layer.shared_experts : 1);
        return 2 * dim * widths * (in + (unread && layer.experts == 0 ? 0 : 1));
      };
      if (layer.depth_fraction == 0)
        a_row += half % 2 == 0 ? mixing(shape.context, last) : feeding(last);
      else if (half % 2 != 0)
        a_row += layer.depth_fraction *
                 (mixing(passing_tokens(shape.context, layer.depth_fraction), false) + feeding(false));
    }
  }
  return a_row * number(shape.batch) * context;
}

}  // namespace hone
