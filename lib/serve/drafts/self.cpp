#include "base/error.h"
#include "base/spelling.h"
#include "serve/drafts/kinds.h"

namespace hone {
namespace {

class SelfDraft : public LogitsDraft {
 public:
  explicit SelfDraft(const DraftSource& source) : LogitsDraft(source), layers_(source.numbers[0]) {}

  // The blocks that a token went through for nothing are those that the model need not run again.
  DraftCost cost() const override {
    const Transformer& model = source().target;
    const double step = stored_bytes(model);
    return {stored_bytes(model, layers_) / step, stored_bytes(model, 0) / step};
  }

 private:
  std::optional<Tensor> logits_after(std::span<const int32_t> text) override {
    return source().target.logits(source().session.shallow(text.last(1), layers_));
  }

  int64_t layers_;
};

}  // namespace

void check_self_draft(const DraftSettings& s, const std::vector<int64_t>& numbers, const Transformer& target) {
  if (numbers[0] >= target.layers())
    throw usage_error("draft '{}': the model has {}, of which at most {} can draft", s.kind,
                      counted(target.layers(), "layer"), target.layers() - 1);
}

std::unique_ptr<Drafter> self_draft(DraftSource source) {
  return std::make_unique<SelfDraft>(source);
}

}  // namespace hone
