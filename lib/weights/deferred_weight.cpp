#include "weights/deferred_weight.h"

namespace hone {

DeferredWeight::DeferredWeight(Encoded encoded, std::string where)
    : encoded_(std::move(encoded)), where_(std::move(where)) {}

Weight& DeferredWeight::get() const {
  if (Weight* ready = ready_.load(std::memory_order_acquire)) return *ready;
  const std::lock_guard lock(mutex_);
  if (!weight_) {
    Encoded verified = encoded_;
    verified.verify();
    verified.verify = nullptr;
    weight_ = decode_weight(verified, where_);
    ready_.store(weight_.get(), std::memory_order_release);
  }
  return *weight_;
}

std::string DeferredWeight::form() const {
  const Weight* ready = ready_.load(std::memory_order_acquire);
  return ready ? ready->form() : encoded_.form;
}

int64_t DeferredWeight::stored_bytes() const {
  const Weight* ready = ready_.load(std::memory_order_acquire);
  return ready ? ready->stored_bytes() : hone::stored_bytes(encoded_);
}

// What the file says is for reports, and for weights that have not changed: a number that cannot be is not believed.
int64_t DeferredWeight::nonzeros() const {
  const Weight* ready = ready_.load(std::memory_order_acquire);
  if (ready) return ready->nonzeros();
  const auto told = encoded_.attributes.find(nonzeros_attribute);
  const bool possible = told != encoded_.attributes.end() && told->second >= 0 && told->second <= rows() * cols();
  return possible ? told->second : get().nonzeros();
}

}  // namespace hone
