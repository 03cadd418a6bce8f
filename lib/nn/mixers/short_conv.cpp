// Gated short convolutions in place of attention (LFM2, Liquid AI 2025; the short filters of Hyena, Poli et al., arXiv
// 2302.10866): one matrix gives gates B and C and values x, each channel of B x is convolved over the latest rows of
// its sequence, and C times that goes back by another matrix. It costs the same at every position, and remembers
// SIZE - 1 rows.
#include "kernels/rows/short_conv.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/kind_name.h"
#include "base/spelling.h"
#include "nn/linear.h"
#include "nn/mixer.h"
#include "ops/short_conv.h"

namespace hone {
namespace {

constexpr const char* form = "conv:SIZE";

int64_t taps_of(const std::string& name) {
  const int64_t taps = numbers_of("attention", name, form).front();
  if (taps < 2 || taps > kernels::ShortConv::most_taps)
    throw usage_error("attention '{}': a convolution over {}; give 2 to {}", name, counted(taps, "token"),
                      kernels::ShortConv::most_taps);
  return taps;
}

// The latest rows of B x of each sequence, in a ring: as many as the next row sees, and those that can be taken back.
// In f32, so that a product of two numbers in bf16 is what one call for the whole sequence has.
class ShortConvState : public LayerState {
 public:
  ShortConvState(int64_t before, int64_t width, const StateShape& shape)
      : before_(before), width_(width), rows_(Tensor::empty({shape.sequences, before + shape.take_back, width})) {}

  static double bytes_of(int64_t before, int64_t width, const StateShape& shape) {
    return 4.0 * static_cast<double>(shape.sequences) * static_cast<double>(before + shape.take_back) *
           static_cast<double>(width);
  }
  int64_t bytes() const override { return static_cast<int64_t>(rows_.bytes()); }
  int64_t earliest(int64_t, int64_t length) const override {
    return std::max<int64_t>(1, length > ring() ? length - ring() + before_ : 1);
  }
  void truncate(int64_t, int64_t, int64_t) override {}  // which rows count follows from how many tokens there are

  bool keeps() const override { return true; }
  std::vector<Tensor> keep(int64_t sequence, int64_t) const override {
    const Tensor kept = Tensor::empty({ring(), width_});
    std::copy_n(row(sequence, 0), kept.size(), kept.data<float>());
    return {kept};
  }
  void restore(int64_t sequence, int64_t, const std::vector<Tensor>& kept) override {
    std::copy_n(kept.front().data<float>(), kept.front().size(), row(sequence, 0));
  }

  // The rows before `position`, the latest last; zeros where the sequence had not begun.
  void take(int64_t sequence, int64_t position, float* to) const {
    for (int64_t p = position - before_; p < position; ++p, to += width_)
      if (p < 0)
        std::fill_n(to, width_, 0.0f);
      else
        std::copy_n(row(sequence, p), width_, to);
  }
  // The rows of `count` tokens from `position` on, as far as later ones may see them.
  void put(int64_t sequence, int64_t position, int64_t count, const float* rows) {
    for (int64_t t = std::max<int64_t>(0, count - ring()); t < count; ++t)
      std::copy_n(rows + t * width_, width_, row(sequence, position + t));
  }

 private:
  int64_t ring() const { return rows_.dim(1); }
  float* row(int64_t sequence, int64_t position) const {
    return rows_.data<float>() + (sequence * ring() + position % ring()) * width_;
  }

  int64_t before_, width_;
  Tensor rows_;  // f32 [sequences, ring, width]
};

class ShortConvolution : public Mixer {
 public:
  // Of several ranks each has some of the channels.
  ShortConvolution(const BlockBlueprint& blueprint, const LayerBlueprint& layer, const Share& share)
      : taps_(taps_of(layer.attention)),
        width_(share.of(layer.heads) * blueprint.head_dim),
        part_(share.rows({layer.heads * blueprint.head_dim})) {
    const int64_t whole = layer.heads * blueprint.head_dim;
    input_ = Linear::make(3 * whole, blueprint.dim, blueprint.biases, layer.own_projections(),
                          share.rows({whole, whole, whole}));
    output_ = Linear::make(blueprint.dim, whole, blueprint.biases, layer.own_projections(), share.columns({whole}));
    kernel_ = std::make_shared<Parameter>();
    kernel_->value = Tensor::promised({width_, taps_});
  }

  Var forward(const Var& x, const Call& call, int64_t layer, LayerState* state) const override {
    return output_.forward(convolved(x, call, layer, state), call, call.eight_bits_at(layer, Site::mixer_output),
                           call.unread);
  }
  void remember(const Var& x, const Call& call, int64_t layer, LayerState* state) const override {
    convolved(x, call, layer, state);
  }

  std::unique_ptr<LayerState> make_state(const StateShape& shape) const override {
    return std::make_unique<ShortConvState>(taps_ - 1, width_, shape);
  }
  void configure(const LayerBlueprint&) override {}  // another size is another kernel

  void visit(const Place& at, Visitor& visitor) override {
    input_.visit(at.in("input"), Role::mixer_input, visitor, false, {width_, width_, width_});
    ParameterInfo info = at.info("kernel", Role::mixer_array);
    info.part = part_;
    info.parts = {width_};
    info.deviation = 1 / std::sqrt(static_cast<double>(taps_));  // what comes out is as large as what goes in
    visitor.parameter(info, *kernel_);
    output_.visit(at.in("output"), Role::mixer_output, visitor);
  }

  double flops(int64_t) const override { return static_cast<double>(width_) * static_cast<double>(2 * taps_ + 1); }
  double state_bytes_read(int64_t position, DType, kernels::CacheCode) const override {
    return 4.0 * static_cast<double>(std::min(position, taps_ - 1)) * static_cast<double>(width_);
  }
  double state_bytes(const StateShape& shape) const override {
    return ShortConvState::bytes_of(taps_ - 1, width_, shape);
  }
  // Gates and values, and what the last product is given; the sums are made again.
  MixerArrays training_arrays() const override { return {{3 * width_, width_}, {}, width_, 3 * width_}; }

 private:
  Var convolved(const Var& x, const Call& call, int64_t layer, LayerState* state) const {
    const Var projected = input_.forward(x, call, call.eight_bits_at(layer, Site::mixer_input));
    std::vector<kernels::ShortConvSpan> spans;
    int64_t rows = 0;
    for (const Span& span : call.batch.spans()) {
      spans.push_back({rows, span.count});
      rows += span.count;
    }
    return state ? continued(projected.value(), call.batch, spans, static_cast<ShortConvState&>(*state))
                 : ops::short_conv(projected, *kernel_, std::move(spans));
  }

  Var continued(const Tensor& in, const Batch& batch, std::vector<kernels::ShortConvSpan>& spans,
                ShortConvState& state) const {
    const int64_t of_span = (taps_ - 1) * width_;
    const Tensor before = Tensor::empty({static_cast<int64_t>(spans.size()), of_span}),
                 gated = Tensor::empty({in.dim(0), width_}), out = Tensor::empty({in.dim(0), width_}, in.dtype());
    for (size_t i = 0; i < spans.size(); ++i) {
      float* const rows = before.data<float>() + static_cast<int64_t>(i) * of_span;
      state.take(batch.spans()[i].sequence, batch.spans()[i].first, rows);
      spans[i].before = rows;
    }
    kernels::short_conv_forward(ops::short_conv_of(*kernel_), in.view(), spans, out.view(), gated.data<float>());
    for (size_t i = 0; i < spans.size(); ++i)
      state.put(batch.spans()[i].sequence, batch.spans()[i].first, spans[i].rows,
                gated.data<float>() + spans[i].first_row * width_);
    return Var(out);
  }

  int64_t taps_, width_;
  RankPart part_;
  Linear input_;                       // [3 * width, dim]: B, then C, then x
  std::shared_ptr<Parameter> kernel_;  // [width, taps]: of the row itself, then of the one before it, …
  Linear output_;                      // [dim, width]
};

}  // namespace

MixerFamily short_conv_mixer() {
  return {
      .kinds = [] { return std::vector<std::string>{form}; },
      .examples = [] { return std::vector<std::string>{"conv:4"}; },
      .check =
          [](const std::string& name, int64_t context) {
            if (const int64_t taps = taps_of(name); context > 0 && taps > context)
              throw usage_error("attention '{}': {} tokens are more than the context of {}; give fewer", name, taps,
                                context);
          },
      .make = make_mixer<ShortConvolution>,
      .attends = false,
      .shares_parameters = [](const std::string& a, const std::string& b) { return taps_of(a) == taps_of(b); },
  };
}

}  // namespace hone
