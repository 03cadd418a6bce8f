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
                 {1, capacity(source), source.session.state().shape().type, source.session.state().shape().take_back}),
        cost_(stored_bytes(*source.settings.model) / stored_bytes(source.target)) {}

  double cost() const override { return cost_; }

 private:
  // Learned positions may end sooner than those of the model it drafts for.
  static int64_t capacity(const DraftSource& source) {
    return std::min(source.session.capacity(), max_positions(source.settings.model->config()));
  }

  // It has read what it drafted itself: of that only what was accepted stays.
  void begin(std::span<const int32_t> sequence) override {
    size_t shared = 0;
    while (shared < read_.size() && shared + 1 < sequence.size() && read_[shared] == sequence[shared]) ++shared;
    session_.truncate(0, static_cast<int64_t>(shared));
    read_.resize(shared);
  }

  std::optional<Tensor> logits_after(std::span<const int32_t> text) override {
    if (static_cast<int64_t>(text.size()) > session_.capacity()) return {};
    const Tensor logits = session_.feed(text.subspan(read_.size()));
    read_.assign(text.begin(), text.end());
    return logits;
  }

  Session session_;
  std::vector<int32_t> read_;
  double cost_;
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
