#include <algorithm>

#include "base/error.h"
#include "serve/drafts/kinds.h"

namespace hone {
namespace {

class ModelDraft : public LogitsDraft {
 public:
  explicit ModelDraft(const DraftSource& source)
      : LogitsDraft(source),
        session_(*source.settings.model,
                 {1, capacity(source), source.session.state().shape().type, source.session.state().shape().take_back}) {
  }

  DraftCost cost() const override {
    const double token = stored_bytes(*source().settings.model) / stored_bytes(source().target);
    return {token, token, token * row_cost * static_cast<double>(most_missed)};
  }

  void read_prompt(std::span<const int32_t> prompt, int64_t chunk) override {
    if (static_cast<int64_t>(prompt.size()) > session_.capacity()) return;
    session_.feed(prompt, chunk);
    read_.assign(prompt.begin(), prompt.end());
  }

 private:
  // Tokens written while nothing was drafted that it reads later. Of more it forgets all that was before the last of
  // them: a text that it drafts badly must not cost the reading of all of it.
  static constexpr int64_t most_missed = 64;

  // Learned positions may end sooner than those of the model it drafts for.
  static int64_t capacity(const DraftSource& source) {
    return std::min(source.session.capacity(), max_positions(source.settings.model->config()));
  }

  // It has read what it drafted itself: of that only what was accepted stays.
  void begin(std::span<const int32_t> sequence) override {
    const std::span<const int32_t> known = sequence.subspan(first_);
    size_t shared = 0;
    while (shared < read_.size() && shared + 1 < known.size() && read_[shared] == known[shared]) ++shared;
    if (!read_.empty() && known.size() - shared > static_cast<size_t>(most_missed)) {
      first_ = sequence.size() - static_cast<size_t>(most_missed);
      shared = 0;
    }
    session_.truncate(0, static_cast<int64_t>(shared));
    read_.resize(shared);
  }

  std::optional<Tensor> logits_after(std::span<const int32_t> text) override {
    const std::span<const int32_t> known = text.subspan(first_);
    if (static_cast<int64_t>(known.size()) > session_.capacity()) return {};
    const Tensor logits = session_.feed(known.subspan(read_.size()));
    read_.assign(known.begin(), known.end());
    return logits;
  }

  Session session_;
  size_t first_ = 0;           // of the text, that it remembers
  std::vector<int32_t> read_;  // from there on
};

}  // namespace

void check_model_draft(const DraftSettings& s, const std::vector<int64_t>&, const Transformer& target) {
  if (!s.model) throw usage_error("a draft by another model needs its file");
  const int64_t mine = s.model->config().vocabulary, theirs = target.config().vocabulary;
  if (mine != theirs)
    throw usage_error("the draft's model has {} tokens, the model {}: they need one tokenizer", mine, theirs);
}

std::unique_ptr<Drafter> model_draft(DraftSource source) {
  return std::make_unique<ModelDraft>(source);
}

}  // namespace hone
