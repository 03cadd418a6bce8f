#include "report/scores.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace hone {
namespace {

constexpr size_t windows_for_spread = 20;

template <class F>
std::vector<double> each(std::span<const WindowScore> windows, F&& value) {
  std::vector<double> result;
  result.reserve(windows.size());
  for (const WindowScore& window : windows) result.push_back(static_cast<double>(value(window)));
  return result;
}

std::vector<double> losses(const Scores& scores) {
  return each(scores.windows(), [](const WindowScore& w) { return w.loss; });
}

std::vector<double> correct(const Scores& scores) {
  return each(scores.windows(), [](const WindowScore& w) { return w.correct; });
}

std::vector<double> correct_by_bytes(const Scores& scores) {
  return each(scores.windows(), [](const WindowScore& w) { return w.correct_by_bytes; });
}

// Of the part `p` of all `trials` that is correct.
double stderr_of(double p, int64_t trials, std::span<const WindowScore> windows, const std::vector<double>& right) {
  if (windows.size() < windows_for_spread) return std::sqrt(p * (1 - p) / static_cast<double>(trials));
  const Interval interval = ratio_of_sums(right, each(windows, [](const WindowScore& w) { return w.counted(); }));
  return (interval.high - interval.estimate) / student_t(0.95, static_cast<int64_t>(windows.size()) - 1);
}

// a * x - b * y
std::vector<double> combine(double a, const std::vector<double>& x, double b, const std::vector<double>& y) {
  std::vector<double> result(x.size());
  for (size_t i = 0; i < x.size(); ++i) result[i] = a * x[i] - b * y[i];
  return result;
}

Interval exp_of(const Interval& x) {
  return {std::exp(x.estimate), std::exp(x.low), std::exp(x.high)};
}

Interval moved(const Interval& x, double estimate) {
  return {estimate, estimate + (x.low - x.estimate), estimate + (x.high - x.estimate)};
}

void require_same_windows(const Scores& model, const Scores& baseline, size_t divergences) {
  const auto a = model.windows(), b = baseline.windows();
  if (a.size() != b.size())
    throw input_error(
        "model and baseline were scored on {} and {} windows; compare them on the same data, context and stride",
        a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i)
    if (a[i].tokens != b[i].tokens || a[i].bytes != b[i].bytes)
      throw input_error(
          "window {} has {} tokens ({} bytes) for the model and {} ({}) for the baseline; both need one tokenizer", i,
          a[i].tokens, a[i].bytes, b[i].tokens, b[i].bytes);
  if (divergences != 0 && divergences != a.size())
    throw internal_error("{} divergences for {} windows", divergences, a.size());
}

}  // namespace

void Scores::add(const WindowScore& window) {
  windows_.push_back(window);
  total_.loss += window.loss;
  total_.correct += window.correct;
  total_.tokens += window.tokens;
  total_.bytes += window.bytes;
  total_.trials += window.counted();
  total_.correct_by_bytes = std::max<int64_t>(total_.correct_by_bytes, 0) + window.correct_by_bytes;
}

double Scores::loss() const {
  return total_.loss / static_cast<double>(total_.tokens);
}

double Scores::perplexity() const {
  return std::exp(loss());
}

double Scores::bits_per_byte() const {
  return total_.loss / std::numbers::ln2 / static_cast<double>(total_.bytes);
}

double Scores::accuracy() const {
  return static_cast<double>(total_.correct) / static_cast<double>(total_.trials);
}

double Scores::accuracy_stderr() const {
  return stderr_of(accuracy(), total_.trials, windows_, correct(*this));
}

double Scores::accuracy_by_bytes() const {
  return static_cast<double>(total_.correct_by_bytes) / static_cast<double>(total_.trials);
}

double Scores::accuracy_by_bytes_stderr() const {
  return stderr_of(accuracy_by_bytes(), total_.trials, windows_, correct_by_bytes(*this));
}

void Scores::add_to(MetricValues& values) const {
  values["tokens"] = static_cast<double>(tokens());
  values["bytes"] = static_cast<double>(bytes());
  values["loss"] = loss();
  values["perplexity"] = perplexity();
  values["bits_per_byte"] = bits_per_byte();
  values["accuracy"] = accuracy();
  values["accuracy_stderr"] = accuracy_stderr();
  if (!of_choices()) return;
  values["accuracy_by_bytes"] = accuracy_by_bytes();
  values["accuracy_by_bytes_stderr"] = accuracy_by_bytes_stderr();
}

Comparison compare(const Scores& model, const Scores& baseline, std::span<const WindowDivergence> divergences) {
  require_same_windows(model, baseline, divergences.size());
  const auto tokens = each(model.windows(), [](const WindowScore& w) { return w.tokens; });
  const auto bytes = each(model.windows(), [](const WindowScore& w) { return w.bytes; });
  const auto trials = each(model.windows(), [](const WindowScore& w) { return w.counted(); });
  const auto loss_a = losses(model), loss_b = losses(baseline);
  const auto correct_a = correct(model), correct_b = correct(baseline);
  const auto loss_step = combine(1, loss_a, 1, loss_b);
  const double bit = 1 / std::numbers::ln2, a = model.perplexity(), b = baseline.perplexity();

  Comparison result;
  const Interval loss = ratio_of_sums(loss_step, tokens), loss_ratio = ratio_of_sums(loss_a, loss_b);
  result.metrics.push_back({"loss", loss, loss_ratio});
  // d exp(L) = exp(L) dL, for both models at once.
  const Interval width = ratio_of_sums(combine(a, loss_a, b, loss_b), tokens);
  result.metrics.push_back({"perplexity", moved(width, a - b), exp_of(loss)});
  result.metrics.push_back({"bits_per_byte", ratio_of_sums(combine(bit, loss_a, bit, loss_b), bytes), loss_ratio});
  result.metrics.push_back(
      {"accuracy", ratio_of_sums(combine(1, correct_a, 1, correct_b), trials), ratio_of_sums(correct_a, correct_b)});
  if (model.of_choices() && baseline.of_choices()) {
    const auto ours = correct_by_bytes(model), theirs = correct_by_bytes(baseline);
    result.metrics.push_back(
        {"accuracy_by_bytes", ratio_of_sums(combine(1, ours, 1, theirs), trials), ratio_of_sums(ours, theirs)});
  }
  if (!divergences.empty()) {
    std::vector<double> kl, agree, scored;
    for (const WindowDivergence& window : divergences) {
      kl.push_back(window.kl);
      agree.push_back(static_cast<double>(window.agree));
      scored.push_back(static_cast<double>(window.tokens));
    }
    result.kl = ratio_of_sums(kl, scored);
    result.top1_agreement = ratio_of_sums(agree, scored);
  }
  return result;
}

}  // namespace hone
