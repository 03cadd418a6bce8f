// Quality of a model on a text, window by window, and the comparison of two models on the same windows.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "report/metric.h"
#include "report/statistics.h"

namespace hone {

// Sums over the scored tokens of one window.
struct WindowScore {
  double loss = 0;      // nats
  int64_t correct = 0;  // tokens whose most probable prediction was right; or 1 where all of an answer's were
  int64_t tokens = 0;
  int64_t bytes = 0;              // of text that the tokens stand for
  int64_t trials = 0;             // what accuracy counts: the tokens, or 1 answer or question; 0 stands for the tokens
  int64_t correct_by_bytes = -1;  // of a choice (choices.h): 1 where `correct` holds by the byte, else 0; -1: no choice
  int64_t counted() const { return trials ? trials : tokens; }
};

// Windows are added in the order of the text, so that no sum depends on how they were batched. A quantity of no tokens
// is NaN.
class Scores {
 public:
  void add(const WindowScore& window);

  int64_t tokens() const { return total_.tokens; }
  int64_t bytes() const { return total_.bytes; }
  double loss() const;           // nats a token
  double perplexity() const;     // exp(loss)
  double bits_per_byte() const;  // loss in bits over all tokens / bytes
  double accuracy() const;
  // Of accuracy: from the windows' own spread where there are at least 20 (tokens of one window are not independent,
  // Cochran 1977, eq. 6.13 as in ratio_of_sums), otherwise that of independent draws, sqrt(p (1 - p) / trials).
  double accuracy_stderr() const;
  bool of_choices() const { return !windows_.empty() && windows_.front().correct_by_bytes >= 0; }
  double accuracy_by_bytes() const;         // of choices
  double accuracy_by_bytes_stderr() const;  // as accuracy_stderr

  std::span<const WindowScore> windows() const { return windows_; }
  // tokens, bytes, loss, perplexity, bits_per_byte, accuracy, accuracy_stderr; of choices also accuracy_by_bytes and
  // its standard error
  void add_to(MetricValues& values) const;

 private:
  std::vector<WindowScore> windows_;
  WindowScore total_;
};

// How far one window's predictions are from the baseline's: sums over its scored tokens.
struct WindowDivergence {
  double kl = 0;      // nats
  int64_t agree = 0;  // tokens with the same most probable prediction
  int64_t tokens = 0;
};

struct MetricComparison {
  std::string_view metric;
  Interval difference;  // model - baseline
  Interval ratio;       // model / baseline
};

struct Comparison {
  std::vector<MetricComparison> metrics;  // loss, perplexity, bits_per_byte, accuracy, accuracy_by_bytes of choices
  Interval kl;                            // mean KL(baseline || model), nats a token; NaN without divergences
  Interval top1_agreement;
};

// 95% intervals over windows, paired: ratio_of_sums (statistics.h) for loss, bits_per_byte, accuracy, kl and agreement;
// the perplexity's ratio is exp of the loss's difference, its difference the same linearized. `divergences` has one
// entry for each window, or none. Throws Error(input) when the two were scored on different windows.
Comparison compare(const Scores& model, const Scores& baseline, std::span<const WindowDivergence> divergences = {});

}  // namespace hone
