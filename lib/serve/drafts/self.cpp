#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "serve/drafts/kinds.h"

namespace hone {
namespace {

class SelfDraft : public Drafter {
 public:
  explicit SelfDraft(DraftSource source)
      : source_(source),
        layers_(source.numbers[0]),
        sampler_(source.sampling, source.random),
        cost_(stored_bytes(source.target, layers_) / stored_bytes(source.target)) {}

  std::vector<Drafted> propose(std::span<const int32_t> sequence, int64_t most) override {
    std::vector<int32_t> text(sequence.begin(), sequence.end());
    std::vector<Drafted> drafted;
    while (static_cast<int64_t>(drafted.size()) < most) {
      const Tensor hidden = source_.session.shallow(std::span(&text.back(), 1), layers_);
      const Tensor logits = source_.target.logits(hidden);
      if (highest_probability(logits.span<float>()) < source_.settings.min_probability) break;
      const Distribution from = sampler_.distribution(logits.span<float>(), text, source_.banned);
      drafted.push_back({sampler_.draw(from), from});
      text.push_back(drafted.back().token);
    }
    return drafted;
  }

  double cost() const override { return cost_; }

 private:
  DraftSource source_;
  int64_t layers_;
  Sampler sampler_;
  double cost_;
};

}  // namespace

void check_self_draft(const DraftSettings& s, const std::vector<int64_t>& numbers, const Transformer& target) {
  if (numbers[0] >= target.layers())
    throw usage_error("draft '{}': the model has {} layers, of which at most {} can draft", s.kind, target.layers(),
                      target.layers() - 1);
}

std::unique_ptr<Drafter> self_draft(DraftSource source) {
  return std::make_unique<SelfDraft>(std::move(source));
}

double highest_probability(std::span<const float> logits) {
  const float highest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - highest));
  return 1 / sum;
}

}  // namespace hone
