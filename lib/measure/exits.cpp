#include "measure/exits.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "base/spelling.h"
#include "dataset/windows.h"
#include "model/exits.h"

namespace hone {
namespace {

constexpr int64_t rows_at_once = 2048;              // of one forward
constexpr int64_t logit_bytes = int64_t{64} << 20;  // that exist at a time

struct Read {
  float loss, measured;
  int32_t choice;
};

Read read_row(const ExitSeen& seen, int32_t target, const ExitCriterion& criterion) {
  const std::span<const float> logits = seen.logits;
  const auto highest = std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += static_cast<double>(std::exp(logit - *highest));
  const double of_target = static_cast<double>(logits[static_cast<size_t>(target)] - *highest);
  return {static_cast<float>(std::log(sum) - of_target), static_cast<float>(criterion.measure(seen)),
          static_cast<int32_t>(highest - logits.begin())};
}

class Scanner {
 public:
  Scanner(const Transformer& model, const Corpus& text, const ExitScanSettings& settings)
      : model_(model), text_(text), s_(settings) {
    scan_.depths = exits_of(model.config());
    scan_.depths.push_back(model.layers());
  }

  ExitScan run() {
    const NoTape pause;
    const int64_t tokens = s_.limit > 0 ? std::min(s_.limit, text_.size()) : text_.size();
    const std::vector<EvalWindow> windows = windows_for_eval(tokens, s_.context, s_.stride);
    if (windows.empty())
      throw input_error("'{}' has {}; scoring needs at least 2", text_.name(), counted(tokens, "token"));
    for (size_t done = 0; done < windows.size();) {
      size_t end = done + 1;
      const int64_t length = windows[done].length, most = std::max<int64_t>(1, rows_at_once / length);
      while (end < windows.size() && windows[end].length == length && static_cast<int64_t>(end - done) < most) ++end;
      group(std::span(windows).subspan(done, end - done));
      done = end;
      if (s_.progress) s_.progress(static_cast<int64_t>(done), static_cast<int64_t>(windows.size()));
    }
    scan_.windows.push_back(scan_.tokens());
    return std::move(scan_);
  }

 private:
  void group(std::span<const EvalWindow> windows) {
    const int64_t length = windows.front().length, count = static_cast<int64_t>(windows.size());
    std::vector<int32_t> ids, targets, tokens(static_cast<size_t>(length) + 1);
    for (const EvalWindow& w : windows) {
      text_.copy(w.begin, length + 1, tokens.data());
      for (const int32_t id : tokens)
        if (id < 0 || id >= model_.config().vocabulary)
          throw input_error("'{}' has token {}, which is outside the model's vocabulary of {}", text_.name(), id,
                            model_.config().vocabulary);
      ids.insert(ids.end(), tokens.begin(), tokens.end() - 1);
      targets.insert(targets.end(), tokens.begin() + 1, tokens.end());
    }
    Call call = model_.call(Batch::whole(count, length), s_.type);
    call.exits = exits_of(model_.config());
    const Transformer::Output out = model_.forward(ids, call);
    std::vector<Tensor> hidden;
    for (const ExitOutput& exit : out.exits) hidden.push_back(exit.hidden.value());
    hidden.push_back(out.hidden.value());
    for (int64_t i = 0; i < count; ++i) {
      const EvalWindow& w = windows[static_cast<size_t>(i)];
      scan_.windows.push_back(scan_.tokens());
      add(hidden, i * length + w.first_scored, length - w.first_scored, targets);
    }
  }

  // Rows [first, first + count), all of which are scored.
  void add(const std::vector<Tensor>& hidden, int64_t first, int64_t count, const std::vector<int32_t>& targets) {
    const size_t depths = hidden.size(), before = scan_.losses.size();
    const auto more = before + static_cast<size_t>(count) * depths;
    scan_.losses.resize(more);
    scan_.measured.resize(more);
    scan_.correct.resize(more);
    scan_.agrees.resize(more);
    std::vector<int32_t> choices(static_cast<size_t>(count) * depths);
    const int64_t chunk = std::max<int64_t>(1, logit_bytes / (4 * model_.config().padded_vocabulary));
    for (size_t d = 0; d < depths; ++d)
      for (int64_t begin = 0; begin < count; begin += chunk) {
        const int64_t rows = std::min(chunk, count - begin);
        const Tensor read_here = hidden[d].rows(first + begin, rows), logits = model_.logits(read_here);
        const Tensor here = read_here.to(DType::f32),
                     past = d > 0 ? hidden[d - 1].rows(first + begin, rows).to(DType::f32) : Tensor();
        for (int64_t r = 0; r < rows; ++r) {
          const auto row = static_cast<size_t>(begin + r);
          const int32_t target = targets[static_cast<size_t>(first) + row];
          ExitSeen seen = {logits.rows(r, 1).span<float>(), here.rows(r, 1).span<float>()};
          if (past) seen.before = past.rows(r, 1).span<float>();
          const Read read = read_row(seen, target, *s_.criterion);
          scan_.losses[before + row * depths + d] = read.loss;
          scan_.measured[before + row * depths + d] = read.measured;
          scan_.correct[before + row * depths + d] = read.choice == target;
          choices[row * depths + d] = read.choice;
        }
      }
    for (size_t i = 0; i < choices.size(); ++i)
      scan_.agrees[before + i] = choices[i] == choices[i / depths * depths + depths - 1];
  }

  const Transformer& model_;
  const Corpus& text_;
  const ExitScanSettings& s_;
  ExitScan scan_;
};

// Means where token t ends at depths[end(t)].
template <class F>
ExitScores scores(const ExitScan& scan, F&& end) {
  const size_t depths = scan.depths.size();
  ExitScores s;
  s.shares.assign(depths, 0);
  for (size_t w = 0; w + 1 < scan.windows.size(); ++w) {
    const int64_t first = scan.windows[w], last = scan.windows[w + 1];
    int64_t differ = 0;
    for (int64_t t = first; t < last; ++t) {
      const size_t row = static_cast<size_t>(t) * depths, d = end(row);
      s.loss += static_cast<double>(scan.losses[row + d]);
      s.accuracy += scan.correct[row + d];
      s.agreement += scan.agrees[row + d];
      s.mean_depth += static_cast<double>(scan.depths[d]);
      ++s.shares[d];
      differ += !scan.agrees[row + d];
    }
    s.disagreements.push_back(static_cast<double>(differ) / static_cast<double>(std::max<int64_t>(last - first, 1)));
  }
  const auto tokens = static_cast<double>(scan.tokens());
  for (double* sum : {&s.loss, &s.accuracy, &s.agreement, &s.mean_depth}) *sum /= tokens;
  for (double& share : s.shares) share /= tokens;
  return s;
}

// P(X <= k) for X ~ Binomial(n, p).
double binomial_below(int64_t k, int64_t n, double p) {
  double sum = 0;
  const auto trials = static_cast<double>(n);
  for (int64_t i = 0; i <= std::min(k, n); ++i) {
    const auto hits = static_cast<double>(i);
    sum += std::exp(std::lgamma(trials + 1) - std::lgamma(hits + 1) - std::lgamma(trials - hits + 1) +
                    hits * std::log(p) + (trials - hits) * std::log1p(-p));
  }
  return std::min(sum, 1.0);
}

double divergence(double a, double b) {
  const auto part = [](double x, double y) { return x > 0 ? x * std::log(x / y) : 0; };
  return part(a, b) + part(1 - a, 1 - b);
}

}  // namespace

ExitScan scan_exits(const Transformer& model, const Corpus& text, const ExitScanSettings& settings) {
  require_exits(model.config(), "scoring exits");
  return Scanner(model, text, settings).run();
}

ExitScores scores_of(const ExitScan& scan, const ExitRule& rule) {
  const size_t last = scan.depths.size() - 1;
  return scores(scan, [&](size_t row) {
    for (size_t d = 0; d < last; ++d)
      if (rule.sure(static_cast<double>(scan.measured[row + d]))) return d;
    return last;
  });
}

ExitScores scores_at(const ExitScan& scan, size_t depth) {
  return scores(scan, [&](size_t) { return depth; });
}

double hoeffding_bentkus(double mean, int64_t n, double bound) {
  const auto count = static_cast<double>(n);
  const double hoeffding = std::exp(-count * divergence(std::min(mean, bound), bound));
  const auto hits = static_cast<int64_t>(std::ceil(count * mean - 1e-9));
  return std::min({1.0, hoeffding, std::exp(1.0) * binomial_below(hits, n, bound)});
}

int64_t windows_needed(double agreement, double confidence) {
  int64_t n = 1;
  while (hoeffding_bentkus(0, n, 1 - agreement) > 1 - confidence) ++n;
  return n;
}

std::optional<int64_t> windows_needed(double disagreement, double agreement, double confidence) {
  if (disagreement >= 1 - agreement) return std::nullopt;
  constexpr int64_t most = 1'000'000;
  int64_t n = windows_needed(agreement, confidence);
  while (n < most && hoeffding_bentkus(disagreement, n, 1 - agreement) > 1 - confidence) n += n / 16 + 1;
  return n < most ? std::optional(n) : std::nullopt;
}

std::vector<double> exit_thresholds(const ExitCriterion& criterion, int64_t count) {
  // Entropies beyond 4 nats are not sure of anything. Squares: most of what matters is close to certainty.
  const double least = criterion.least, most = std::min(criterion.most, 4.0);
  std::vector<double> all;
  for (int64_t i = 1; i < count; ++i) {
    const double part = static_cast<double>(i) / static_cast<double>(count), step = part * part * (most - least);
    all.push_back(criterion.least_is_surer ? least + step : most - step);
  }
  return all;
}

CalibratedExits calibrate_exits(const ExitScan& scan, const ExitCriterion& criterion, double agreement, int64_t context,
                                double confidence) {
  if (!(agreement > 0 && agreement < 1))
    throw usage_error("the agreement to promise must be between 0 and 1, not {}", agreement);
  CalibratedExits result;
  result.windows = static_cast<int64_t>(scan.windows.size()) - 1;
  const int64_t needed = windows_needed(agreement, confidence);
  if (result.windows < needed)
    throw input_error(
        "the text has {} of {} tokens, and a promise of {} needs {}: {} tokens of text, or more where exits and the "
        "last layer disagree",
        counted(result.windows, "window"), context, agreement, needed, needed * context + 1);
  double surest = 0;  // disagreement with the first threshold
  for (const double threshold : exit_thresholds(criterion, 200)) {
    const ExitRule rule = {&criterion, threshold};
    const ExitScores scores = scores_of(scan, rule);
    double mean = 0;
    for (const double x : scores.disagreements) mean += x / static_cast<double>(result.windows);
    const double p = hoeffding_bentkus(mean, result.windows, 1 - agreement);
    if (++result.tested == 1) surest = mean;
    if (p > 1 - confidence) break;
    result.calibration = {rule, agreement, confidence};
    result.scores = scores;
    result.p_value = p;
  }
  if (result.calibration.rule.criterion) return result;
  const std::string what = fmt::format("no threshold of {} keeps a promise of {} on this text of {}", criterion.name,
                                       agreement, counted(result.windows, "window"));
  const std::optional<int64_t> more = windows_needed(surest, agreement, confidence);
  if (!more) throw input_error("{}: where the surest tokens leave, {:.4f} of all differ; promise less", what, surest);
  throw input_error(
      "{}: promise less, or give more text; with a disagreement of {:.4f}, which the surest threshold has here, about {} "
      "windows would do: {} tokens",
      what, surest, *more, *more * context + 1);
}

}  // namespace hone
