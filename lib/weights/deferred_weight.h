// A weight in a mapped file of which nothing is read before it is first used.
#pragma once

#include <atomic>
#include <mutex>
#include <string>

#include "weights/weight.h"

namespace hone {

// Shape, form, element and, where the file says it, the number of nonzeros are known from the start. The first call
// that needs an element compares the arrays with their checksums and decodes them; threads may come at once, one does
// it. Later calls cost one load beside the weight's own. A first use may throw Error(input), as Encoded::verify and
// decode_weight() do, so it must not be made from within a parallel loop.
class DeferredWeight : public Weight {
 public:
  enum class Arrays {
    unknown,  // they have to be verified and decoded before anything is made of them
    sound     // a Weight of this process gave them
  };

  // `encoded` has a shape of two dimensions and, where its arrays are unknown, verify(); `where` names the weight in
  // messages.
  DeferredWeight(Encoded encoded, std::string where, Arrays arrays = Arrays::unknown);

  int64_t rows() const override { return encoded_.shape[0]; }
  int64_t cols() const override { return encoded_.shape[1]; }
  void matmul(kernels::ConstView x, kernels::View y) const override { get().matmul(x, y); }
  std::optional<kernels::PackedMatrix> packed(DType x) const override { return get().packed(x); }
  std::optional<kernels::PackedMatrix> integers(bool transposed) const override { return get().integers(transposed); }
  void set_rounding(const kernels::ActivationRounding& rounding) override;
  int activation_bits() const override;
  void matmul_dx(kernels::ConstView dy, kernels::View dx) const override { get().matmul_dx(dy, dx); }
  void add_dw(kernels::ConstView dy, kernels::ConstView x) override { for_change().add_dw(dy, x); }
  void gather(std::span<const int32_t> ids, kernels::View out) const override { get().gather(ids, out); }
  Parameter* parameter() override { return for_change().parameter(); }
  bool trainable() const override { return get().trainable(); }
  Tensor to_dense() const override { return get().to_dense(); }
  Bitmask mask() const override { return get().mask(); }
  void set_mask(Bitmask mask) override { for_change().set_mask(std::move(mask)); }
  Encoded encode() const override;  // of sound arrays, as long as nobody needed an element: themselves
  std::string form() const override;
  std::string element() const override { return encoded_.element; }
  int64_t stored_bytes() const override;
  int64_t nonzeros() const override;
  int64_t pruned() const override;
  // Before the first use: what is called in place of Encoded::verify, which it is given.
  void change_verify(const std::function<std::function<void()>(std::function<void()>)>& change) {
    if (encoded_.verify) encoded_.verify = change(std::move(encoded_.verify));
  }
  // The next use decodes the arrays again, and does not compare them again. What was counted stays known.
  void let_go() const override;

 private:
  using Count = std::atomic<int64_t>;  // below 0: not counted yet

  Weight& get() const;
  Weight& for_change();  // the same, which is kept from then on
  void let_go_of_copied(const Encoded& used) const;
  // Of a weight that nobody uses: what was counted before, or what the file says in an attribute.
  std::optional<int64_t> told(const char* attribute, const Count& counted) const;

  Encoded encoded_;
  std::string where_;
  Arrays arrays_;
  kernels::ActivationRounding rounding_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<Weight> weight_;       // guarded by the mutex
  mutable bool verified_ = false;                // guarded by the mutex
  mutable std::atomic<Weight*> ready_{nullptr};  // the weight, once it is there
  std::atomic<bool> may_change_{false};
  mutable Count nonzeros_{-1}, pruned_{-1};
};

}  // namespace hone
