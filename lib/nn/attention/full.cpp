// Every key up to the query's own position.
#include "nn/attention/pattern.h"

namespace hone {
namespace {

class Full : public AttentionPattern {
 public:
  kernels::MaskRule rule() const override { return {}; }
  void check(int64_t) const override {}
};

}  // namespace

std::shared_ptr<const AttentionPattern> full_attention(const AttentionNumbers&) {
  return std::make_shared<Full>();
}

}  // namespace hone
