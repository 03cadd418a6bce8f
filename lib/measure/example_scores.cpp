#include "measure/example_scores.h"

#include <algorithm>

#include "base/error.h"
#include "base/spelling.h"
#include "base/stop.h"
#include "comm/gather.h"
#include "model/reading.h"
#include "model/whole_arrays.h"
#include "weights/part.h"

namespace hone {
namespace {

constexpr int64_t rows_at_once = 4096;

// Of one sequence, whose rows begin at `row`.
WindowScore score_of(const Sequence& s, const ops::TokenLosses& losses, int64_t row) {
  WindowScore score;
  if (s.answer_row < 0) {
    for (int64_t r = 0; r < s.size(); ++r) {
      if (s.targets[static_cast<size_t>(r)] < 0) continue;
      score.loss += static_cast<double>(losses.losses[static_cast<size_t>(row + r)]);
      score.correct += losses.correct[static_cast<size_t>(row + r)];
      ++score.tokens;
    }
    score.trials = score.tokens;
    score.bytes = score.tokens;
    return score;
  }
  bool right = true;
  for (int64_t r = s.answer_row; r < s.answer_row + s.answer_tokens; ++r) {
    score.loss += static_cast<double>(losses.losses[static_cast<size_t>(row + r)]);
    right = right && losses.correct[static_cast<size_t>(row + r)];
  }
  score.tokens = s.answer_tokens;
  score.correct = right;
  score.trials = 1;
  return score;
}

// Of a rank's examples.
struct ScoredExample {
  int64_t example = 0;
  WindowScore score;
};

// `share`: of the examples those at its index, one of so many.
std::vector<ScoredExample> score_share(const Transformer& model, SequenceReader& reader, DType type, int64_t count,
                                       const Share& share, const std::function<void(int64_t, int64_t)>& progress,
                                       std::vector<EncoderLoad>& encoders) {
  const NoTape pause;
  std::vector<ScoredExample> scored;
  for (int64_t next = share.index; next < count;) {
    if (!model.ranks()) check_stop();
    JoinedInput rows;
    std::vector<Sequence> sequences;
    std::vector<Span> spans;
    std::vector<int32_t> targets;
    for (int64_t size = 0; next < count && size < rows_at_once; next += share.count) {
      std::optional<Sequence> sequence = reader.read(next);
      if (!sequence) continue;
      size += sequence->size();
      spans.push_back({static_cast<int64_t>(spans.size()), 0, sequence->size()});
      rows.add(sequence->input());
      targets.insert(targets.end(), sequence->targets.begin(), sequence->targets.end());
      sequences.push_back(std::move(*sequence));
    }
    if (sequences.empty()) continue;
    ops::TokenLosses losses;
    in_step(model, [&] {
      const Tensor hidden =
          hidden_states(model, rows.input(), std::move(spans), {.type = type, .trace = {.encoders = &encoders}});
      losses = model.loss(Var(hidden), targets);
    });
    int64_t row = 0;
    for (const Sequence& s : sequences) {
      ScoredExample one = {s.example, score_of(s, losses, row)};
      const Example& example = reader.examples().all[static_cast<size_t>(s.example)];
      if (s.answer_row >= 0) one.score.bytes = static_cast<int64_t>(example.answer.size());
      scored.push_back(one);
      row += s.size();
    }
    if (progress) progress(std::min(next, count), count);
  }
  return scored;
}

}  // namespace

ExampleScores score_examples(const Transformer& model, SequenceReader& reader, DType type, int64_t limit,
                             const std::function<void(int64_t, int64_t)>& progress,
                             const std::shared_ptr<Communicator>& ranks) {
  const int64_t count = limit > 0 ? std::min(limit, reader.size()) : reader.size();
  ExampleScores scores;
  scores.encoders.resize(model.encoders().size());
  std::vector<ScoredExample> all;
  for (const std::vector<ScoredExample>& part : gather_lists<ScoredExample>(*ranks, [&] {
         return score_share(model, reader, type, count, {ranks->rank(), ranks->size()}, progress, scores.encoders);
       }))
    all.insert(all.end(), part.begin(), part.end());
  std::ranges::sort(all, {}, &ScoredExample::example);
  for (const ScoredExample& one : all) {
    scores.all.add(one.score);
    scores.kinds[mix_name(reader.examples().all[static_cast<size_t>(one.example)].mix())].add(one.score);
  }
  if (scores.all.windows().empty())
    throw input_error("{}: none of {} can be read", reader.examples().name(), counted(count, "example"));
  return scores;
}

void add_kinds(const ExampleScores& scores, MetricValues& values) {
  for (const auto& [kinds, of] : scores.kinds) {
    if (kinds == "text") continue;
    values["accuracy_" + kinds] = of.accuracy();
    values[fmt::format("accuracy_{}_stderr", kinds)] = of.accuracy_stderr();
  }
}

}  // namespace hone
