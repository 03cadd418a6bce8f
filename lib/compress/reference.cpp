#include "compress/reference.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/stop.h"
#include "measure/divergence.h"

namespace hone {
namespace {

constexpr int64_t rows_at_once = 256;  // of logits

// f32 [rows, vocabulary], packed.
Tensor logits_of(const ops::Head& head, const Tensor& hidden) {
  const int64_t width = head.weight->rows();
  const Tensor all = Tensor::empty({hidden.dim(0), width});
  head.logits(hidden.view(), all.view());
  if (width == head.vocabulary) return all;
  const Tensor cut = Tensor::empty({hidden.dim(0), head.vocabulary});
  for (int64_t r = 0; r < hidden.dim(0); ++r)
    std::copy_n(all.data<float>() + r * width, head.vocabulary, cut.data<float>() + r * head.vocabulary);
  return cut;
}

}  // namespace

CalibrationText some_windows(const CalibrationText& text, int64_t windows) {
  text.require_text("this choice");
  if (windows <= 0 || windows >= text.windows) return text;
  CalibrationText some{windows, text.length, {}};
  for (int64_t w = 0; w < windows; ++w) {
    const auto begin = text.ids.begin() + w * text.windows / windows * text.length;
    some.ids.insert(some.ids.end(), begin, begin + text.length);
  }
  return some;
}

Reference::Reference(const Transformer& model, const CalibrationText& text, DType type, int64_t windows)
    : text_(some_windows(text, windows)), type_(type), head_(model.head()) {
  for (const int32_t id : text_.ids)
    if (id < 0 || id >= head_.vocabulary)
      throw input_error("the calibration text has token {}, outside the model's vocabulary of {}", id,
                        head_.vocabulary);
  for (int64_t w = 0; w < text_.windows; ++w) hidden_.push_back(hidden(model, w));
}

Tensor Reference::hidden(const Transformer& model, int64_t window) const {
  const NoTape pause;
  const auto ids =
      std::span(text_.ids).subspan(static_cast<size_t>(window * text_.length), static_cast<size_t>(text_.length));
  const Call call = model.call(Batch::whole(1, text_.length), type_);
  return model.hidden(ids, call).value().to(DType::f32);
}

Distance Reference::distance(const Transformer& model) const {
  return distance(model.head(), [&](int64_t window) { return hidden(model, window); });
}

Distance Reference::own() const {
  return distance(head_, [&](int64_t window) { return hidden_[static_cast<size_t>(window)]; });
}

Distance Reference::distance(const ops::Head& head, const std::function<Tensor(int64_t)>& hidden_of) const {
  Distance sum;
  double targets = 0;
  const int64_t vocabulary = head.vocabulary;
  for (int64_t w = 0; w < text_.windows; ++w) {
    check_stop();
    const Tensor mine = hidden_of(w), reference = hidden_[static_cast<size_t>(w)];
    for (int64_t first = 0; first < text_.length; first += rows_at_once) {
      const int64_t rows = std::min(rows_at_once, text_.length - first);
      const Tensor a = logits_of(head_, reference.rows(first, rows));
      const Tensor b = logits_of(head, mine.rows(first, rows));
      for (int64_t r = 0; r < rows; ++r) {
        const auto row = [&](const Tensor& t) {
          return std::span<const float>(t.data<float>() + r * vocabulary, static_cast<size_t>(vocabulary));
        };
        const Divergence d = divergence(row(a), row(b));
        sum.kl += d.kl;
        sum.agreement += d.agree;
        const int64_t at = first + r + 1;
        if (at == text_.length) continue;
        const auto logits = row(b);
        const auto target = static_cast<size_t>(text_.ids[static_cast<size_t>(w * text_.length + at)]);
        const auto largest = std::max_element(logits.begin(), logits.end());
        double exponentials = 0;
        for (const float x : logits) exponentials += std::exp(static_cast<double>(x - *largest));
        sum.loss += std::log(exponentials) + static_cast<double>(*largest - logits[target]);
        sum.accuracy += largest - logits.begin() == static_cast<std::ptrdiff_t>(target);
        ++targets;
      }
    }
  }
  const double all = static_cast<double>(tokens());
  sum.kl /= all;
  sum.agreement /= all;
  sum.loss /= std::max(targets, 1.0);
  sum.accuracy /= std::max(targets, 1.0);
  return sum;
}

}  // namespace hone
