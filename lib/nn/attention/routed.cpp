// Blocks of BLOCK keys chosen by content for each query of each head: its own, and the COUNT - 1 past ones that it
// scores highest by the mean and the extremes of their keys (kernels/attention/route.h), beside the latest WINDOW keys
// where there is a window. The choice has no gradient: it is trained through the keys and queries of the blocks that
// were chosen.
#include "base/error.h"
#include "nn/attention/pattern.h"

namespace hone {
namespace {

class Routed : public AttentionPattern {
 public:
  explicit Routed(const AttentionNumbers& n) : name_(n.name), rule_{n.at(0, 0), n.at(1, 0), n.at(2, 0)} {
    if (rule_.block < 1 || rule_.block % kernels::attention_block)
      throw usage_error("attention '{}': blocks of {} tokens; the kernels' tiles need a multiple of {}", name_,
                        rule_.block, kernels::attention_block);
    if (rule_.count < 1)
      throw usage_error("attention '{}': a query sees at least its own block; give a COUNT of 1 or more", name_);
    if (n.values.size() > 2 && rule_.window == 0)
      throw usage_error("attention '{}': a window of 0 tokens sees nothing; leave it out or give at least 1", name_);
  }

  kernels::MaskRule rule() const override { return {rule_.window, 0}; }
  CacheNeed need() const override { return {kernels::MaskRule::unlimited, 0, rule_.block}; }

  // At most: a window may show a part of a chosen block.
  int64_t visible_keys(int64_t position) const override {
    const int64_t own = position % rule_.block + 1, past = (rule_.count - 1) * rule_.block;
    const int64_t beyond = std::max<int64_t>(0, rule_.window - own);
    return std::min(position + 1, own + past + beyond);
  }

  std::shared_ptr<const kernels::BlockPlan> plan(const AttentionQueries& call) const override {
    return kernels::routed_plan(call.dims, call.q, call.summaries, rule_);
  }
  bool visits(const AttentionQueries& call, std::vector<int64_t>& starts,
              std::vector<kernels::DecodeVisit>& visits) const override {
    kernels::routed_visits(call.dims, call.q, call.summaries, rule_, starts, visits);
    return true;
  }

  void check(int64_t context) const override {
    const int64_t blocks = (context + rule_.block - 1) / rule_.block;
    if (rule_.block > context || rule_.window > context)
      throw usage_error("attention '{}': {} tokens are more than the context of {}; give fewer", name_,
                        rule_.block > context ? rule_.block : rule_.window, context);
    if (rule_.count > blocks)
      throw usage_error(
          "attention '{}': {} blocks of {} tokens, but a context of {} has only {}; give fewer, or use full", name_,
          rule_.count, rule_.block, context, blocks);
  }

 private:
  std::string name_;
  kernels::RouteRule rule_;
};

}  // namespace

std::shared_ptr<const AttentionPattern> routed_attention(const AttentionNumbers& numbers) {
  return std::make_shared<Routed>(numbers);
}

}  // namespace hone
