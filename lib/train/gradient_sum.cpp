#include "train/gradient_sum.h"

#include <utility>

#include "kernels/rows/elementwise.h"

namespace hone {
namespace {

// Of gradients of other ranks that wait to be added.
constexpr size_t most_received = size_t{64} << 20;

std::span<std::byte> bytes_of(const Tensor& tensor) {
  return {tensor.raw(), tensor.bytes()};
}

}  // namespace

GradientSum::GradientSum(std::vector<OwnedParameter> parameters, Communicator& ranks) : ranks_(ranks) {
  for (const OwnedParameter& p : parameters) slots_.push_back({p.parameter, p.owner, Tensor()});
}

std::string GradientSum::present() const {
  std::string flags;
  for (const Slot& slot : slots_) flags += slot.parameter->has_grad ? '1' : '0';
  return flags;
}

// `received`: of this slot, from the other ranks that have one, by rank.
void GradientSum::add_in_order(Slot& slot, size_t index, const std::vector<std::string>& present,
                               std::span<Tensor> received) {
  size_t next = 0;
  for (size_t rank = 0; rank < present.size(); ++rank) {
    if (present[rank][index] == '0') continue;
    Tensor& gradient = static_cast<int>(rank) == ranks_.rank() ? slot.parameter->grad : received[next++];
    if (slot.any)
      kernels::add(slot.sum.view(), gradient.view());
    else
      std::swap(slot.sum, gradient);  // memory changes hands, and no element is copied
    slot.any = true;
  }
}

void GradientSum::add(const std::vector<std::string>& present) {
  const int me = ranks_.rank();
  std::vector<std::unique_ptr<Pending>> sent;
  for (size_t i = 0; i < slots_.size(); ++i)
    if (const Slot& slot = slots_[i]; slot.owner != me && slot.parameter->has_grad)
      sent.push_back(ranks_.send(bytes_of(slot.parameter->grad), slot.owner));
  for (size_t begin = 0; begin < slots_.size();) {
    std::vector<std::vector<Tensor>> received;
    std::vector<std::unique_ptr<Pending>> coming;
    size_t end = begin;
    for (size_t bytes = 0; end < slots_.size() && bytes < most_received; ++end) {
      received.emplace_back();
      if (slots_[end].owner != me) continue;
      for (size_t rank = 0; rank < present.size(); ++rank) {
        if (static_cast<int>(rank) == me || present[rank][end] == '0') continue;
        const Tensor& gradient = received.back().emplace_back(Tensor::empty(slots_[end].parameter->value.shape()));
        coming.push_back(ranks_.receive(bytes_of(gradient), static_cast<int>(rank)));
        bytes += gradient.bytes();
      }
    }
    wait(coming);
    for (size_t i = begin; i < end; ++i)
      if (slots_[i].owner == me) add_in_order(slots_[i], i, present, received[i - begin]);
    begin = end;
  }
  wait(sent);
  for (size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    slot.parameter->has_grad = false;
    for (const std::string& flags : present) slot.any = slot.any || flags[i] == '1';
  }
}

void GradientSum::finish() {
  for (Slot& slot : slots_) {
    slot.changes = slot.any;
    slot.any = false;
    if (slot.owner != ranks_.rank() || !slot.changes) continue;
    std::swap(slot.parameter->grad, slot.sum);
    slot.parameter->has_grad = true;
  }
}

void GradientSum::discard() {
  for (Slot& slot : slots_) slot.any = slot.changes = false;
}

void GradientSum::share_values() {
  if (ranks_.size() == 1) return;
  std::vector<std::unique_ptr<Pending>> coming;
  for (const Slot& slot : slots_)
    if (slot.changes) coming.push_back(ranks_.broadcast(bytes_of(slot.parameter->value), slot.owner));
  wait(coming);
  for (Slot& slot : slots_) {
    if (slot.changes && slot.owner != ranks_.rank()) ++slot.parameter->version;
    slot.changes = false;
  }
}

}  // namespace hone
