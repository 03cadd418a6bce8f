#include "measure/activations.h"

#include <algorithm>
#include <vector>

#include "nn/mixer.h"
#include "ops/cross_entropy.h"

namespace hone {
namespace {

// Of one half block, bytes a row: what its backward pass reads, and what that takes beside it while it runs.
struct HalfRow {
  double kept = 0, backward = 0;
};

double number(int64_t n) {
  return static_cast<double>(n);
}

class Rows {
 public:
  Rows(const Config& config, const TrainingShape& shape)
      : config_(config), unit_(number(static_cast<int64_t>(size_of(shape.type)))), capacity_(shape.capacity) {}

  double dim() const { return number(config_.block.dim); }
  double stream() const { return 4 * dim(); }      // a row of the residual stream: f32
  double branch() const { return unit_ * dim(); }  // of what is added to it

  // Sum of the stream and normalized row; queries, keys and values, what attention gives and its log sums. Backward: the
  // gradients of the stream, the branch and all of those but the sum.
  HalfRow mixer(const LayerBlueprint& layer) const {
    const double heads = number(layer.heads * config_.block.head_dim),
                 kv = number(2 * layer.kv_heads * config_.block.head_dim);
    const double inner = unit_ * (2 * heads + kv);
    return {stream() + branch() + inner + 4 * number(layer.heads), stream() + 2 * branch() + inner};
  }

  // Sum and normalized row; what `up` gives, and the activation of it.
  HalfRow feed_forward(const LayerBlueprint& layer) const {
    const double wide = config_.block.activation == ActivationKind::swiglu ? 3 : 2;
    const double hidden = unit_ * wide * number(layer.ffn);
    HalfRow half = {stream() + branch(), stream() + 2 * branch()};
    const double always = number(layer.experts > 0 ? layer.shared_experts : 1);
    half.kept += always * hidden;
    half.backward += always * hidden;
    if (layer.experts == 0) return half;
    // The rows of each expert go in and come out, and each has its own row inside.
    const double slots = number(layer.top_k) * std::min(capacity_ > 0 ? capacity_ : 1, 1.0);
    const double scores = 4 * number(layer.experts);
    half.kept += slots * (hidden + 2 * branch()) + scores;
    half.backward += slots * (hidden + 2 * branch()) + scores;
    return half;
  }

  std::vector<HalfRow> halves() const {
    std::vector<HalfRow> all;
    for (const LayerBlueprint& layer : config_.layers) {
      all.push_back(layer.mixes() ? mixer(layer) : HalfRow{});
      all.push_back(layer.feeds() ? feed_forward(layer) : HalfRow{});
    }
    return all;
  }

 private:
  const Config& config_;
  double unit_, capacity_;
};

int64_t layers_of(const Config& config) {
  return static_cast<int64_t>(config.layers.size());
}

}  // namespace

double activation_bytes(const Config& config, const TrainingShape& shape) {
  const Rows row(config, shape);
  const std::vector<HalfRow> halves = row.halves();
  const std::vector<Stretch> stretches = shape.recompute.stretches(0, layers_of(config));
  const double rows = number(shape.batch) * number(shape.context);
  const double ids = 8;  // inputs and targets, and a copy for the embedding's gradient
  // Forward: what each stretch leaves behind. The first sum of the stream is the embedding itself.
  std::vector<double> before = {2 * ids + row.stream()};
  for (const Stretch& stretch : stretches) {
    double left = 0;
    for (int64_t half = stretch.from; half < stretch.to; ++half) left += halves[static_cast<size_t>(half)].kept;
    if (stretch.again) left = row.stream();
    if (before.size() == 1) left -= row.stream();
    before.push_back(before.back() + left);
  }
  // The last norm, the gradient of what it gives and of what exits gave, and the logits of some rows.
  const double head = row.stream() + (2 + number(shape.exits)) * row.branch();
  const double padded = number(config.padded_vocabulary);
  const double logits =
      std::min(rows,
               number(ops::head_chunk_rows(static_cast<int64_t>(std::min(rows, 1e15)), config.padded_vocabulary))) *
      padded * number(static_cast<int64_t>(size_of(shape.type)));
  double most = rows * (before.back() + head) + logits;
  // Backward, from the last stretch to the first: a stretch that runs again has all its halves once more.
  for (size_t i = stretches.size(); i-- > 0;) {
    double held = stretches[i].again ? before[i + 1] - (i == 0 ? 0 : row.stream()) : before[i];
    if (i == 0 && !stretches[i].again) held -= row.stream();
    for (int64_t half = stretches[i].from; half < stretches[i].to; ++half) {
      const HalfRow& h = halves[static_cast<size_t>(half)];
      held += h.kept;
      most = std::max(most, rows * (held + h.backward));
    }
  }
  return most;
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
      if (half % 2 == 0) {
        const double heads = number(layer.heads * config.block.head_dim);
        a_row += 2 * dim * (heads + number(2 * layer.kv_heads * config.block.head_dim)) + (last ? 0 : 2 * dim * heads);
        if (layer.mixes()) a_row += Mixer::make(config.block, layer)->flops(shape.context / 2);
      } else {
        const double in = config.block.activation == ActivationKind::swiglu ? 2 : 1;
        const double widths = number(layer.ffn) * number(layer.experts > 0 ? layer.top_k + layer.shared_experts : 1);
        a_row += 2 * dim * widths * (in + (last && layer.experts == 0 ? 0 : 1));
      }
    }
  }
  return a_row * number(shape.batch) * context;
}

}  // namespace hone
