#include "compress/effects.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>

#include "base/stop.h"
#include "compress/calibration.h"

namespace hone {
namespace {

constexpr int64_t least_windows = 4, least_tokens = 512;

// The sum over rows of the squared change over the squared size.
double relative_change(const Tensor& exact, const Tensor& changed) {
  const int64_t rows = exact.dim(0), dim = exact.dim(1);
  double sum = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const float *a = exact.data<float>() + r * dim, *b = changed.data<float>() + r * dim;
    double change = 0, size = 0;
    for (int64_t c = 0; c < dim; ++c) {
      const double difference = static_cast<double>(b[c]) - static_cast<double>(a[c]);
      change += difference * difference;
      size += static_cast<double>(a[c]) * static_cast<double>(a[c]);
    }
    if (change != 0) sum += change / std::max(size, 1e-30);  // also what is no number
  }
  return sum;
}

class EffectMeasurer {
 public:
  EffectMeasurer(Transformer& model, const CalibrationText& text, std::span<const Replacement> replacements,
                 const std::function<void(int64_t, int64_t)>& progress)
      : model_(model),
        text_(text),
        replacements_(replacements),
        progress_(progress),
        reference_(model, text_, DType::f32),
        effects_(replacements.size()) {
    for (int64_t w = 0; w < text_.windows; ++w) {
      const Input input = text_.input(w);
      calls_.push_back(model.call(input, {{0, 0, input.size()}}, DType::f32));
    }
  }

  std::vector<std::optional<double>> run() {
    const NoTape pause;
    const int64_t layers = model_.layers();
    std::vector<std::vector<size_t>> of_block(static_cast<size_t>(layers));
    std::map<std::string, int64_t> layer_of;
    for (const NamedWeight& weight : named_weights(model_)) layer_of[weight.name] = weight.layer;
    for (size_t i = 0; i < replacements_.size(); ++i)
      if (const int64_t layer = layer_of.at(replacements_[i].slot.name); layer >= 0)
        of_block[static_cast<size_t>(layer)].push_back(i);
      else
        measure_alone(i);
    std::vector<Stream> streams;
    for (size_t w = 0; w < calls_.size(); ++w)
      streams.push_back(model_.embed(text_.input(static_cast<int64_t>(w)), calls_[w]));
    for (int64_t layer = 0; layer < layers; ++layer) {
      std::vector<Stream> next;
      for (size_t w = 0; w < streams.size(); ++w) next.push_back(through(streams[w], w, layer, layer + 1));
      measure_block(layer, of_block[static_cast<size_t>(layer)], streams, next);
      streams = std::move(next);
    }
    return std::move(effects_);
  }

 private:
  Stream through(const Stream& stream, size_t window, int64_t from, int64_t to) const {
    check_stop();
    return model_.run(stream, from, to, calls_[window]);
  }

  void measured(size_t count) {
    done_ += static_cast<int64_t>(count);
    if (progress_ && count > 0) progress_(done_, static_cast<int64_t>(effects_.size()));
  }

  void measure_alone(size_t i) {
    const Restore restore({replacements_[i].slot.weight});
    *replacements_[i].slot.weight = replacements_[i].by;
    const double kl = finite_divergence(reference_.distance(model_).kl, replacements_[i].slot.name);
    if (kl != 0) effects_[i] = kl;
    measured(1);
  }

  void measure_block(int64_t layer, const std::vector<size_t>& members, const std::vector<Stream>& before,
                     const std::vector<Stream>& behind) {
    if (members.empty()) return;
    std::vector<Tensor> exact;
    for (const Stream& stream : behind) exact.push_back(sum_of_stream(stream));
    std::vector<double> changes;
    for (const size_t i : members) {
      const Restore restore({replacements_[i].slot.weight});
      *replacements_[i].slot.weight = replacements_[i].by;
      double change = 0;
      for (size_t w = 0; w < before.size(); ++w)
        change += relative_change(exact[w], sum_of_stream(through(before[w], w, layer, layer + 1)));
      changes.push_back(finite_divergence(change, replacements_[i].slot.name));
    }
    const double sum = std::accumulate(changes.begin(), changes.end(), 0.0);
    if (sum > 0) {
      std::vector<std::shared_ptr<Weight>*> slots;
      for (const size_t i : members) slots.push_back(replacements_[i].slot.weight);
      const Restore restore(slots);
      for (const size_t i : members) *replacements_[i].slot.weight = replacements_[i].by;
      const double kl =
          reference_
              .distance(model_,
                        [&](int64_t window) {
                          const auto w = static_cast<size_t>(window);
                          return model_.finish(through(before[w], w, layer, model_.layers()), calls_[w]).value();
                        })
              .kl;
      for (size_t k = 0; k < members.size(); ++k)
        if (changes[k] > 0) effects_[members[k]] = kl * changes[k] / sum;
    }
    measured(members.size());
  }

  Transformer& model_;
  const CalibrationText& text_;
  std::span<const Replacement> replacements_;
  const std::function<void(int64_t, int64_t)>& progress_;
  Reference reference_;
  std::vector<Call> calls_;  // a window each
  std::vector<std::optional<double>> effects_;
  int64_t done_ = 0;
};

}  // namespace

CalibrationText effect_windows(const CalibrationText& text) {
  const int64_t length = std::max<int64_t>(text.rows() / std::max<int64_t>(text.windows, 1), 1);
  const int64_t windows = std::max(least_windows, (least_tokens + length - 1) / length);
  return some_windows(text, std::min(windows, divergence_windows));
}

std::vector<std::optional<double>> replacement_effects(Transformer& model, const CalibrationText& text,
                                                       std::span<const Replacement> replacements,
                                                       const std::function<void(int64_t done, int64_t all)>& progress) {
  return EffectMeasurer(model, text, replacements, progress).run();
}

}  // namespace hone
