#include "weights/deferred_weight.h"

#include "tensor/pages.h"

namespace hone {

DeferredWeight::DeferredWeight(Encoded encoded, std::string where, Arrays arrays)
    : encoded_(std::move(encoded)), where_(std::move(where)), arrays_(arrays) {}

Weight& DeferredWeight::get() const {
  if (Weight* ready = ready_.load(std::memory_order_acquire)) return *ready;
  const std::lock_guard lock(mutex_);
  if (!weight_) {
    Encoded verified = encoded_;
    if (arrays_ == Arrays::unknown && !verified_) verified.verify();
    verified_ = true;
    verified.verify = nullptr;
    weight_ = decode_weight(verified, where_);
    weight_->set_rounding(rounding_);
    let_go_of_copied(weight_->encode());
    ready_.store(weight_.get(), std::memory_order_release);
  }
  return *weight_;
}

void DeferredWeight::set_rounding(const kernels::ActivationRounding& rounding) {
  rounding_ = rounding;
  if (Weight* ready = ready_.load(std::memory_order_acquire)) ready->set_rounding(rounding);
}

int DeferredWeight::activation_bits() const {
  if (const Weight* ready = ready_.load(std::memory_order_acquire)) return ready->activation_bits();
  if (!kernels::is_integer_element(encoded_.element)) return 16;
  if (rounding_.bits) return *rounding_.bits;
  const auto stored = encoded_.attributes.find(activation_bits_attribute);
  return stored != encoded_.attributes.end() && stored->second == 8 ? 8 : 16;
}

Weight& DeferredWeight::for_change() {
  may_change_ = true;
  return get();
}

void DeferredWeight::let_go() const {
  const std::lock_guard lock(mutex_);
  if (may_change_) return;
  ready_.store(nullptr, std::memory_order_release);
  weight_.reset();
  for (const auto& [name, array] : encoded_.arrays) hone::let_go(array);
}

// What the decoded weight has a copy of is not read again.
void DeferredWeight::let_go_of_copied(const Encoded& used) const {
  for (const auto& [name, array] : encoded_.arrays) {
    const auto found = used.arrays.find(name);
    if (found == used.arrays.end() || found->second.raw() != array.raw()) hone::let_go(array);
  }
}

Encoded DeferredWeight::encode() const {
  if (arrays_ == Arrays::sound && !ready_.load(std::memory_order_acquire)) return encoded_;
  return get().encode();
}

std::string DeferredWeight::form() const {
  const Weight* ready = ready_.load(std::memory_order_acquire);
  return ready ? ready->form() : encoded_.form;
}

int64_t DeferredWeight::stored_bytes() const {
  const Weight* ready = ready_.load(std::memory_order_acquire);
  return ready ? ready->stored_bytes() : hone::stored_bytes(encoded_);
}

// For reports, and for weights that have not changed: a number that cannot be is not believed.
std::optional<int64_t> DeferredWeight::told(const char* attribute, const Count& counted) const {
  if (ready_.load(std::memory_order_acquire)) return {};
  if (const int64_t n = counted; n >= 0) return n;
  const auto found = encoded_.attributes.find(attribute);
  if (found == encoded_.attributes.end() || found->second < 0 || found->second > rows() * cols()) return {};
  return found->second;
}

int64_t DeferredWeight::nonzeros() const {
  if (const auto n = told(nonzeros_attribute, nonzeros_)) return *n;
  return nonzeros_ = get().nonzeros();
}

int64_t DeferredWeight::pruned() const {
  if (const auto n = told(pruned_attribute, pruned_)) return *n;
  return pruned_ = get().pruned();
}

}  // namespace hone
