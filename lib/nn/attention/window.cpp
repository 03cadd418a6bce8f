// The latest SIZE keys, the query's own among them (Longformer, Beltagy et al. 2020, arXiv 2004.05150; Mistral, Jiang
// et al. 2023, 2310.06825), and the first SINKS of the sequence, where heads leave attention that they have no use for
// (StreamingLLM, Xiao et al. 2023, 2309.17453).
#include "base/error.h"
#include "nn/attention/pattern.h"

namespace hone {
namespace {

class Window : public AttentionPattern {
 public:
  explicit Window(const AttentionNumbers& n) : name_(n.name), size_(n.at(0, 0)), sinks_(n.at(1, 0)) {
    if (size_ < 1) throw usage_error("attention '{}': a window of 0 tokens sees nothing; give at least 1", name_);
  }

  kernels::MaskRule rule() const override { return {size_, sinks_}; }

  void check(int64_t context) const override {
    if (size_ > context || sinks_ > context)
      throw usage_error("attention '{}': {} tokens are more than the context of {}; give fewer, or use full", name_,
                        size_ > context ? size_ : sinks_, context);
  }

 private:
  std::string name_;
  int64_t size_, sinks_;
};

}  // namespace

std::shared_ptr<const AttentionPattern> window_attention(const AttentionNumbers& numbers) {
  return std::make_shared<Window>(numbers);
}

}  // namespace hone
