// What makes the drafters of the table in serve/draft.cpp: a kind, a file, a line there.
#pragma once

#include <optional>

#include "serve/draft.h"

namespace hone {

// What followed the latest place where the text had its last N tokens: prompt lookup, without a model. N is 3 unless it
// is given; of several places the one that shares most before them.
void check_ngram_draft(const DraftSettings& settings, const std::vector<int64_t>& numbers, const Transformer& target);
std::unique_ptr<Drafter> ngram_draft(DraftSource source);

// The first blocks of the model itself, through the norm of an exit there, or else its last one, and its head: their
// keys and values, and what comes out of them, are what the model goes on with (LayerSkip, Elhoushi et al. 2024, arXiv
// 2404.16710, section 4.3).
void check_self_draft(const DraftSettings& settings, const std::vector<int64_t>& numbers, const Transformer& target);
std::unique_ptr<Drafter> self_draft(DraftSource source);

// Another model of the same tokenizer, such as a pruned or quantized child.
void check_model_draft(const DraftSettings& settings, const std::vector<int64_t>& numbers, const Transformer& target);
std::unique_ptr<Drafter> model_draft(DraftSource source);

// Drafts from logits, whoever gives them: until it is unsure.
class LogitsDraft : public Drafter {
 public:
  explicit LogitsDraft(const DraftSource& source) : source_(source), sampler_(source.sampling, source.random) {}
  std::vector<Drafted> propose(std::span<const int32_t> sequence, int64_t most) override;

 protected:
  // Before a draft: what is left of an earlier one may go.
  virtual void begin(std::span<const int32_t> /*sequence*/) {}
  // After `text`, f32 [1, vocabulary]; null where it can read no more.
  virtual std::optional<Tensor> logits_after(std::span<const int32_t> text) = 0;
  const DraftSource& source() const { return source_; }

 private:
  DraftSource source_;
  Sampler sampler_;
};

}  // namespace hone
