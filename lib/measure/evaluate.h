// Scores of a model on a text.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "comm/communicator.h"
#include "dataset/corpus.h"
#include "dataset/windows.h"
#include "model/transformer.h"
#include "report/scores.h"

namespace hone {

// Of windows that go through a model together: one of them is scored with all others, or not at all.
struct GroupScores {
  std::vector<WindowScore> model, baseline;   // the second of a pair
  std::vector<WindowDivergence> divergences;  // of a model beside a baseline
};

// What an earlier run has scored, and who is told what this one scores.
class GroupLog {
 public:
  virtual ~GroupLog() = default;
  // Null where it was not scored, or not all of these.
  virtual const GroupScores* find(std::span<const size_t> windows) const = 0;
  virtual void add(std::span<const size_t> windows, GroupScores scores) = 0;
};

struct EvaluateSettings {
  int64_t context = 256;
  int64_t stride = 256;
  int64_t limit = 0;  // tokens of the text that are scored, from its start; 0: all
  // Windows to score instead of those of context, stride and limit: answers (dataset/questions.h), in any order of
  // lengths. Accuracy is then that of whole windows: those of which every scored token is predicted.
  std::vector<EvalWindow> answers = {};
  int64_t chunk = 0;  // longer windows go through the model in chunks of this many tokens, with a cache; 0: all at once
  DType type = DType::f32;
  kernels::CacheCode code = kernels::CacheCode::none;                  // else all windows go through a cache of codes
  AttentionMeter *attention = nullptr, *baseline_attention = nullptr;  // of the models; may be null
  std::function<void(int64_t done, int64_t all)> progress;             // windows; may be empty
  GroupLog* log = nullptr;                                             // null: nothing is known and nobody told
  // Ranks with the same of the model that share the windows: evaluate() is then called on each, and gives each the
  // score of all, the same to the bit. What meters count is of this rank's windows.
  std::shared_ptr<Communicator> ranks = alone();
  // += where the model's tokens went, and the baseline's, by layer; null: not wanted. Every token that goes through the
  // model counts, scored or not.
  std::vector<LayerRouting>*routing = nullptr, *baseline_routing = nullptr;
  ModelDepth *depth = nullptr, *baseline_depth = nullptr;  // the same of routers of depth
};

// Windows of one length go through the model a fixed number of tokens at a time, which no option changes: a score
// depends on context and stride alone. Throws Error(input) when the text has fewer than two tokens or ids outside the
// model's vocabulary.
Scores evaluate(const Transformer& model, const Corpus& text, const EvaluateSettings& settings);

struct PairedScores {
  Scores model, baseline;
  std::vector<WindowDivergence> divergences;
};

// Both models over the same windows, with the divergence of their predictions. Their vocabularies must agree:
// Error(input). Where ranks have parts of the first, they have parts of the second, or each has it whole; called on
// every one of them it gives each the same.
PairedScores evaluate_pair(const Transformer& model, const Transformer& baseline, const Corpus& text,
                           const EvaluateSettings& settings);

}  // namespace hone
