#include "measure/evaluate.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "base/error.h"
#include "base/spelling.h"
#include "comm/gather.h"
#include "kernels/gemm/gemm.h"
#include "kernels/rows/elementwise.h"
#include "measure/divergence.h"
#include "measure/kept_baseline.h"
#include "model/reading.h"
#include "model/session.h"
#include "model/whole_arrays.h"

namespace hone {
namespace {

// Rows of one forward. Large enough for the products' full speed.
constexpr int64_t rows_at_once = 2048;
// Of the f32 logits that exist at a time, for a divergence.
constexpr int64_t logit_bytes = int64_t{64} << 20;

// Windows that go through the model together: of one length.
struct Group {
  std::vector<EvalWindow> windows;
  std::vector<size_t> places;  // of these among all windows
  std::vector<int32_t> inputs, targets;
};

std::vector<EvalWindow> windows_of(const Corpus& text, const EvaluateSettings& s) {
  if (!s.answers.empty()) return s.answers;
  const int64_t tokens = s.limit > 0 ? std::min(s.limit, text.size()) : text.size();
  std::vector<EvalWindow> windows = windows_for_eval(tokens, s.context, s.stride);
  if (windows.empty())
    throw input_error("'{}' has {}; scoring needs at least 2", text.name(), counted(tokens, "token"));
  return windows;
}

// In which windows are scored: those of a text as they stand, answers by their length, so that groups are large.
std::vector<size_t> order_of(const std::vector<EvalWindow>& windows, bool by_length) {
  std::vector<size_t> order(windows.size());
  std::iota(order.begin(), order.end(), size_t{0});
  if (by_length)
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return windows[a].length < windows[b].length; });
  return order;
}

// `places`: of the windows that are still to be scored.
Group read(const Corpus& text, const std::vector<EvalWindow>& windows, std::span<const size_t> places,
           int64_t vocabulary) {
  Group group;
  const int64_t length = windows[places.front()].length;
  const size_t most = static_cast<size_t>(std::max<int64_t>(1, rows_at_once / length));
  for (const size_t place : places) {
    if (group.windows.size() == most || windows[place].length != length) break;
    group.windows.push_back(windows[place]);
    group.places.push_back(place);
  }
  std::vector<int32_t> tokens(static_cast<size_t>(length) + 1);
  for (const EvalWindow& w : group.windows) {
    text.copy(w.begin, length + 1, tokens.data());
    for (int32_t id : tokens)
      if (id < 0 || id >= vocabulary)
        throw input_error("'{}' has token {}, which is outside the model's vocabulary of {}", text.name(), id,
                          vocabulary);
    group.inputs.insert(group.inputs.end(), tokens.begin(), tokens.end() - 1);
    for (int64_t t = 0; t < length; ++t)
      group.targets.push_back(t < w.first_scored ? -1 : tokens[static_cast<size_t>(t) + 1]);
  }
  return group;
}

Trace trace_of(const EvaluateSettings& s) {
  return {.attention = s.attention, .routing = s.routing, .depth = s.depth};
}

Trace baseline_trace_of(const EvaluateSettings& s) {
  return {.attention = s.baseline_attention, .routing = s.baseline_routing, .depth = s.baseline_depth};
}

// Hidden states of a group's rows: one call, or chunk by chunk through a state where the windows are longer than one.
Tensor hidden_of(const Transformer& model, const Group& group, const EvaluateSettings& settings, const Trace& trace) {
  const int64_t sequences = static_cast<int64_t>(group.windows.size()), length = group.windows.front().length;
  const int64_t chunk = settings.chunk ? settings.chunk : length;
  if (length <= chunk && settings.code == kernels::CacheCode::none)
    return hidden_states(model, group.inputs, Batch::whole(sequences, length).spans(),
                         {.type = settings.type, .trace = trace});
  Session session(model, {.sequences = sequences, .capacity = length, .type = settings.type, .code = settings.code});
  session.trace = trace;
  return session.hidden(group.inputs, chunk);
}

void add_scores(const Transformer& model, const Tensor& hidden, const Group& group, const Corpus& text, bool whole,
                std::vector<WindowScore>& scores) {
  const ops::TokenLosses losses = model.loss(Var(hidden), group.targets);
  size_t row = 0;
  for (size_t i = 0; i < group.windows.size(); ++i) {
    const EvalWindow& w = group.windows[i];
    WindowScore& score = scores[group.places[i]];
    for (int64_t t = 0; t < w.length; ++t, ++row) {
      score.loss += static_cast<double>(losses.losses[row]);
      score.correct += losses.correct[row];
    }
    score.tokens = w.length - w.first_scored;
    score.trials = score.tokens;
    if (whole) {
      score.correct = score.correct == score.tokens;
      score.trials = 1;
    }
    score.bytes = text.bytes(w.begin + 1 + w.first_scored, score.tokens);
  }
}

// Of the windows that the ranks scored in turns, groups as for_each_group() counts them.
std::vector<WindowScore> of_all_ranks(std::vector<WindowScore> mine, const std::vector<int>& ranks_of_windows,
                                      const std::vector<std::vector<WindowScore>>& by_rank) {
  for (size_t i = 0; i < mine.size(); ++i) mine[i] = by_rank[static_cast<size_t>(ranks_of_windows[i])][i];
  return mine;
}

template <class F>
void for_each_group(const Corpus& text, const std::vector<EvalWindow>& windows, const EvaluateSettings& s,
                    int64_t vocabulary, F&& f) {
  const NoTape pause;
  const std::vector<size_t> order = order_of(windows, !s.answers.empty());
  for (size_t done = 0; done < windows.size();) {
    const Group group = read(text, windows, std::span(order).subspan(done), vocabulary);
    f(group);
    done += group.windows.size();
    if (s.progress) s.progress(static_cast<int64_t>(done), static_cast<int64_t>(windows.size()));
  }
}

// Takes the scores of a group from an earlier run. False: it is to be scored.
bool recall(const EvaluateSettings& s, const Group& group, GroupScores& all) {
  const GroupScores* found = s.log ? s.log->find(group.places) : nullptr;
  const auto fits = [&](const auto& from, const auto& to) {
    return from.size() == (to.empty() ? 0 : group.places.size());
  };
  if (!found || !fits(found->model, all.model) || !fits(found->baseline, all.baseline) ||
      !fits(found->divergences, all.divergences))
    return false;
  const auto take = [&](const auto& from, auto& to) {
    for (size_t i = 0; i < from.size(); ++i) to[group.places[i]] = from[i];
  };
  take(found->model, all.model);
  take(found->baseline, all.baseline);
  take(found->divergences, all.divergences);
  return true;
}

// Tells of a group whose scores are in `all`.
void tell(const EvaluateSettings& s, const Group& group, const GroupScores& all) {
  if (!s.log) return;
  GroupScores some;
  const auto take = [&](const auto& from, auto& to) {
    for (size_t i = 0; !from.empty() && i < group.places.size(); ++i) to.push_back(from[group.places[i]]);
  };
  take(all.model, some.model);
  take(all.baseline, some.baseline);
  take(all.divergences, some.divergences);
  s.log->add(group.places, std::move(some));
}

Scores in_order(const std::vector<WindowScore>& windows) {
  Scores scores;
  for (const WindowScore& window : windows) scores.add(window);
  return scores;
}

std::span<const float> numbers(const Tensor& t) {
  return t.span<float>();
}

WindowDivergence divergence_of(const Transformer& model, const Transformer& baseline, const Tensor& hidden,
                               const Tensor& other) {
  WindowDivergence sum;
  const int64_t vocabulary = model.config().vocabulary;
  const int64_t chunk = std::max<int64_t>(1, logit_bytes / (4 * model.config().padded_vocabulary));
  for (int64_t begin = 0; begin < hidden.dim(0); begin += chunk) {
    const int64_t count = std::min(chunk, hidden.dim(0) - begin);
    const WindowDivergence part = divergence_of_rows(numbers(baseline.logits(other.rows(begin, count))),
                                                     numbers(model.logits(hidden.rows(begin, count))), vocabulary);
    sum.kl += part.kl;
    sum.agree += part.agree;
    sum.tokens += part.tokens;
  }
  return sum;
}

void require_same_vocabulary(const Transformer& model, const Transformer& baseline) {
  if (model.config().vocabulary != baseline.config().vocabulary)
    throw input_error("the models have vocabularies of {} and {} tokens and cannot be compared token by token",
                      model.config().vocabulary, baseline.config().vocabulary);
}

// Calls `f(window, first of its scored rows in the group, how many)` for each window of a group.
template <class F>
void for_each_scored(const Group& group, F&& f) {
  int64_t row = 0;
  for (size_t i = 0; i < group.windows.size(); ++i) {
    const EvalWindow& w = group.windows[i];
    f(i, row + w.first_scored, w.length - w.first_scored);
    row += w.length;
  }
}

}  // namespace

Scores evaluate(const Transformer& model, const Corpus& text, const EvaluateSettings& settings) {
  const std::vector<EvalWindow> windows = windows_of(text, settings);
  GroupScores all;
  all.model.resize(windows.size());
  std::vector<WindowScore>& scores = all.model;
  std::vector<int> ranks_of_windows(windows.size());
  Communicator& ranks = *settings.ranks;
  const auto by_rank = gather_lists<WindowScore>(ranks, [&] {
    int turn = 0;
    for_each_group(text, windows, settings, model.config().vocabulary, [&](const Group& group) {
      for (const size_t place : group.places) ranks_of_windows[place] = turn;
      if (turn == ranks.rank() && !recall(settings, group, all)) {
        in_step(model, [&] {
          add_scores(model, hidden_of(model, group, settings, trace_of(settings)), group, text,
                     !settings.answers.empty(), scores);
        });
        tell(settings, group, all);
      }
      turn = (turn + 1) % ranks.size();
    });
    return scores;
  });
  return in_order(of_all_ranks(std::move(scores), ranks_of_windows, by_rank));
}

PairedScores evaluate_pair(const Transformer& model, const Transformer& baseline, const Corpus& text,
                           const EvaluateSettings& settings) {
  require_same_vocabulary(model, baseline);
  const std::vector<EvalWindow> windows = windows_of(text, settings);
  GroupScores all;
  all.model.resize(windows.size());
  all.baseline.resize(windows.size());
  all.divergences.resize(windows.size());
  for_each_group(text, windows, settings, model.config().vocabulary, [&](const Group& group) {
    if (recall(settings, group, all)) return;
    in_step(model, [&] {
      const Tensor ours = hidden_of(model, group, settings, trace_of(settings));
      const Tensor theirs = hidden_of(baseline, group, settings, baseline_trace_of(settings));
      add_scores(model, ours, group, text, !settings.answers.empty(), all.model);
      add_scores(baseline, theirs, group, text, !settings.answers.empty(), all.baseline);
      for_each_scored(group, [&](size_t i, int64_t row, int64_t count) {
        all.divergences[group.places[i]] =
            divergence_of(model, baseline, ours.rows(row, count), theirs.rows(row, count));
      });
    });
    tell(settings, group, all);
  });
  return {in_order(all.model), in_order(all.baseline), std::move(all.divergences)};
}

int64_t scored_tokens(const Corpus& text, const EvaluateSettings& settings) {
  int64_t tokens = 0;
  for (const EvalWindow& w : windows_of(text, settings)) tokens += w.length - w.first_scored;
  return tokens;
}

Scores score_baseline(const Transformer& baseline, const Corpus& text, const EvaluateSettings& settings,
                      KeptRows& kept) {
  const std::vector<EvalWindow> windows = windows_of(text, settings);
  std::vector<WindowScore> scores(windows.size());
  int64_t done = 0;
  for_each_group(text, windows, settings, baseline.config().vocabulary, [&](const Group& group) {
    const Tensor hidden = hidden_of(baseline, group, settings, baseline_trace_of(settings));
    add_scores(baseline, hidden, group, text, !settings.answers.empty(), scores);
    for_each_scored(group, [&](size_t, int64_t row, int64_t count) {
      kept.write(done, hidden.rows(row, count));
      done += count;
    });
  });
  return in_order(scores);
}

PairedScores evaluate_against(const Transformer& model, const Transformer& baseline, const Scores& scores,
                              const KeptRows& kept, const Corpus& text, const EvaluateSettings& settings) {
  require_same_vocabulary(model, baseline);
  const std::vector<EvalWindow> windows = windows_of(text, settings);
  GroupScores all;
  all.model.resize(windows.size());
  all.divergences.resize(windows.size());
  int64_t done = 0;
  for_each_group(text, windows, settings, model.config().vocabulary, [&](const Group& group) {
    if (recall(settings, group, all)) {
      for_each_scored(group, [&](size_t, int64_t, int64_t count) { done += count; });
      return;
    }
    const Tensor hidden = hidden_of(model, group, settings, trace_of(settings));
    add_scores(model, hidden, group, text, !settings.answers.empty(), all.model);
    for_each_scored(group, [&](size_t i, int64_t row, int64_t count) {
      all.divergences[group.places[i]] =
          divergence_of(model, baseline, hidden.rows(row, count), kept.read(done, count));
      done += count;
    });
    tell(settings, group, all);
  });
  return {in_order(all.model), scores, std::move(all.divergences)};
}

}  // namespace hone
