#include "model/verify_groups.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <mutex>
#include <vector>

#include "base/stop.h"
#include "kernels/parallel.h"
#include "weights/deferred_weight.h"

namespace hone {
namespace {

class VerifyGroup {
 public:
  size_t add(std::function<void()> verify, int64_t bytes) {
    members_.push_back({std::move(verify), bytes});
    bytes_ += bytes;
    longest_ = std::max(longest_, bytes);
    return members_.size() - 1;
  }

  // Whether no thread would wait long for the one that has the longest.
  bool enough() const { return bytes_ >= std::min(most, 2 * kernels::threads() * longest_); }

  void verify(size_t i) {
    const std::lock_guard lock(mutex_);
    if (!done_) verify_all();
    if (members_[i].failure) std::rethrow_exception(members_[i].failure);
  }

 private:
  static constexpr int64_t most = int64_t{256} << 20;  // bytes: of models larger than memory, a part that is not

  struct Member {
    std::function<void()> verify;
    int64_t bytes;
    std::exception_ptr failure = {};
  };

  void verify_all() {
    std::vector<Member*> order;
    for (Member& member : members_) order.push_back(&member);
    // The largest first, so that threads finish together.
    std::ranges::stable_sort(order, std::greater(), &Member::bytes);
    kernels::parallel_each(static_cast<int64_t>(order.size()), [&](int64_t i) {
      Member& member = *order[static_cast<size_t>(i)];
      try {
        member.failure = nullptr;
        member.verify();
      } catch (...) {
        member.failure = std::current_exception();
      }
    });
    for (const Member& member : members_)
      if (member.failure) check_stop();  // it may have failed for that alone
    done_ = true;
    for (Member& member : members_) member.verify = nullptr;
  }

  std::mutex mutex_;
  bool done_ = false;
  std::vector<Member> members_;
  int64_t bytes_ = 0, longest_ = 0;
};

// In the order in which a call uses them, but for the head: it comes last, and is often as long as the embedding, beside
// which it goes.
class Grouper : public Visitor {
 public:
  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    auto* const deferred = dynamic_cast<DeferredWeight*>(weight.get());
    const bool ends = info.role == Role::embedding || info.role == Role::position || info.role == Role::head;
    const bool always = info.expert < 0 && info.kind <= 0 && info.of == info.role && (info.layer >= 0 || ends);
    if (!deferred || !always) return;
    if (info.layer >= 0 && info.layer != layer_ && last_->enough()) last_ = std::make_shared<VerifyGroup>();
    if (info.layer >= 0) layer_ = info.layer;
    const std::shared_ptr<VerifyGroup>& group = info.layer < 0 ? first_ : last_;
    deferred->change_verify([&](std::function<void()> verify) -> std::function<void()> {
      return [group, i = group->add(std::move(verify), deferred->stored_bytes())] { group->verify(i); };
    });
  }
  void parameter(const ParameterInfo&, Parameter&) override {}

 private:
  std::shared_ptr<VerifyGroup> first_ = std::make_shared<VerifyGroup>(), last_ = first_;
  int64_t layer_ = -1;  // of what was added to the last
};

}  // namespace

void verify_in_groups(Model& model) {
  if (model.transformer->ranks()) return;
  Grouper grouper;
  model.transformer->visit(grouper);
}

}  // namespace hone
