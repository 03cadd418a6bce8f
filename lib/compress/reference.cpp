#include "compress/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/stop.h"
#include "kernels/parallel.h"
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

// Of two models' f32 [rows, vocabulary]; `targets` are the tokens that come behind the rows, below 0 where none does.
// `all`: rows without a target count, too, in what compares the models. Rows are divided among threads and added in
// their order.
void add_rows(Distance& sum, const Tensor& reference, const Tensor& model, std::span<const int32_t> targets, bool all) {
  const int64_t rows = model.dim(0), vocabulary = model.dim(1);
  std::vector<Distance> each(static_cast<size_t>(rows));
  kernels::parallel_for(rows, kernels::row_grain(vocabulary), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int32_t target = targets[static_cast<size_t>(r)];
      if (target < 0 && !all) continue;
      const auto row = [&](const Tensor& t) {
        return std::span<const float>(t.data<float>() + r * vocabulary, static_cast<size_t>(vocabulary));
      };
      const auto logits = row(model);
      const Divergence d = divergence(row(reference), logits);
      Distance& mine = each[static_cast<size_t>(r)];
      mine.kl = d.kl;
      mine.agreement = d.agree;
      if (target < 0) continue;
      const auto largest = std::max_element(logits.begin(), logits.end());
      double exponentials = 0;
      for (const float x : logits) exponentials += std::exp(static_cast<double>(x - *largest));
      mine.loss = std::log(exponentials) + static_cast<double>(*largest - logits[static_cast<size_t>(target)]);
      mine.accuracy = largest - logits.begin() == static_cast<std::ptrdiff_t>(target);
    }
  });
  for (const Distance& row : each) {
    sum.kl += row.kl;
    sum.agreement += row.agreement;
    sum.loss += row.loss;
    sum.accuracy += row.accuracy;
  }
}

}  // namespace

double finite_divergence(double kl, const std::string& weight) {
  if (!std::isfinite(kl))
    throw input_error("what '{}' does to the predictions has no measure, {}: on this text they are not finite numbers",
                      weight, kl);
  return kl;
}

CalibrationText some_windows(const CalibrationText& text, int64_t windows) {
  if (windows <= 0 || windows >= text.windows) return text;
  CalibrationText some{windows, text.length, {}};
  for (int64_t w = 0; w < windows; ++w) {
    const int64_t taken = w * text.windows / windows;
    if (!text.examples.empty()) {
      some.examples.push_back(text.examples[static_cast<size_t>(taken)]);
      continue;
    }
    const auto begin = text.ids.begin() + taken * text.length;
    some.ids.insert(some.ids.end(), begin, begin + text.length);
  }
  return some;
}

Reference::Reference(const Transformer& model, const CalibrationText& text, DType type, int64_t windows)
    : text_(some_windows(text, windows)), type_(type), head_(model.head()) {
  const auto require_known = [&](int32_t id) {
    if (id < 0 || id >= head_.vocabulary)
      throw input_error("the calibration text has token {}, outside the model's vocabulary of {}", id,
                        head_.vocabulary);
  };
  for (const int32_t id : text_.ids) require_known(id);
  for (const Sequence& example : text_.examples)
    for (const int32_t id : example.targets)
      if (id >= 0) require_known(id);
  for (int64_t w = 0; w < text_.windows; ++w) hidden_.push_back(hidden(model, w));
}

Tensor Reference::hidden(const Transformer& model, int64_t window) const {
  const NoTape pause;
  const Input input = text_.input(window);
  const Call call = model.call(input, {{0, 0, input.size()}}, type_);
  return model.hidden(input, call).value().to(DType::f32);
}

Distance Reference::distance(const Transformer& model) const {
  return distance(model, [&](int64_t window) { return hidden(model, window); });
}

Distance Reference::distance(const Transformer& model, const std::function<Tensor(int64_t)>& hidden_of) const {
  return *distance(model.head(), hidden_of, std::numeric_limits<double>::infinity());
}

std::optional<Distance> Reference::distance_within(const Transformer& model, double most) const {
  return distance(
      model.head(), [&](int64_t window) { return hidden(model, window); }, most);
}

double Reference::bytes(const Transformer& model, const CalibrationText& text) {
  return 4.0 * static_cast<double>(text.rows() * model.config().block.dim);
}

Distance Reference::own() const {
  const auto kept = [&](int64_t window) { return hidden_[static_cast<size_t>(window)]; };
  return *distance(head_, kept, std::numeric_limits<double>::infinity());
}

std::optional<Distance> Reference::distance(const ops::Head& head, const std::function<Tensor(int64_t)>& hidden_of,
                                            double most) const {
  Distance sum;
  double measured = 0, predicted = 0;
  std::vector<std::vector<int32_t>> targets_of;
  for (int64_t w = 0; w < text_.windows; ++w)
    for (const int32_t target : targets_of.emplace_back(text_.targets(w))) {
      predicted += target >= 0;
      measured += target >= 0 || text_.examples.empty();
    }
  for (int64_t w = 0; w < text_.windows; ++w) {
    check_stop();
    const Tensor mine = hidden_of(w), reference = hidden_[static_cast<size_t>(w)];
    const std::vector<int32_t>& targets = targets_of[static_cast<size_t>(w)];
    for (int64_t first = 0; first < mine.dim(0); first += rows_at_once) {
      const int64_t rows = std::min(rows_at_once, mine.dim(0) - first);
      add_rows(sum, logits_of(head_, reference.rows(first, rows)), logits_of(head, mine.rows(first, rows)),
               std::span(targets).subspan(static_cast<size_t>(first), static_cast<size_t>(rows)),
               text_.examples.empty());
    }
    if (sum.kl > most * measured) return std::nullopt;  // no row takes away from it
  }
  sum.kl /= std::max(measured, 1.0);
  sum.agreement /= std::max(measured, 1.0);
  sum.loss /= std::max(predicted, 1.0);
  sum.accuracy /= std::max(predicted, 1.0);
  return sum;
}

}  // namespace hone
