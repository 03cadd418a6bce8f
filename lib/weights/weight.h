// A matrix behind one interface. A linear layer owns a Weight and never asks in which form it is stored.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/autograd.h"
#include "kernels/packed/packed.h"
#include "kernels/view.h"
#include "tensor/bitmask.h"

namespace hone {

// A weight as it lies in a file: named arrays, each contiguous, plus what is needed to read them.
struct Encoded {
  std::string form;     // layout: "dense", "masked" (trainable, with a mask), "panels", "bitmask", …
  std::string element;  // "f32", or a name of kernels/packed/element.h
  Shape shape;          // logical: [rows, cols]; [n] for a vector
  std::map<std::string, int64_t> attributes;  // e.g. {"group", 32}
  std::map<std::string, Tensor> arrays;       // e.g. "values", "mask", "scales"
  // Set where the arrays lie in a file and were not compared with its checksums yet: does so. To be called before they
  // are read. Throws Error(input) naming file and array.
  std::function<void()> verify = {};
};

// The attribute of a matrix that tells how many of its elements are not zero; absent in files of other writers.
inline constexpr const char* nonzeros_attribute = "nonzeros";
// The same of how many its mask leaves out.
inline constexpr const char* pruned_attribute = "pruned";
// Of a packed matrix of integers: the bits, 8 or 16, that activations are rounded to where nobody says otherwise;
// absent: 16.
inline constexpr const char* activation_bits_attribute = "activation_bits";

// Attributes that a form may have: other ones in a file are not ours, and kept as they are.
bool is_form_attribute(std::string_view name);

// What a product reads of the arrays.
int64_t stored_bytes(const Encoded& encoded);

// Numbers in the arrays that are NaN or infinite.
int64_t count_nonfinite(const Encoded& encoded);

// Products take and give rows of f32 or bf16. What is const may be called from several threads at once.
class Weight {
 public:
  virtual ~Weight() = default;

  virtual int64_t rows() const = 0;  // outputs
  virtual int64_t cols() const = 0;  // inputs

  // y[m, rows] = x[m, cols] W^T
  virtual void matmul(kernels::ConstView x, kernels::View y) const = 0;
  // What matmul() of rows of this type runs on, where that is kernels::packed_matmul(): several weights can then be
  // multiplied in one loop. Valid until the weight changes.
  virtual std::optional<kernels::PackedMatrix> packed(DType /*x*/) const { return {}; }
  // W, or W^T where `transposed`, as integers of 8 bits (kernels/gemm/int8.h) for training. None where the form does
  // not train. Valid until the weight changes.
  virtual std::optional<kernels::PackedMatrix> integers(bool /*transposed*/) const { return {}; }
  // How matmul() rounds activations where the form is of integers, at first not in f32 and in bf16 to the bits that are
  // stored with it (activation_bits_attribute), which is also what a rounding that says no bits means. Nothing else may
  // use the weight meanwhile.
  virtual void set_rounding(const kernels::ActivationRounding& /*rounding*/) {}
  // What matmul() rounds activations to where it rounds them to integers: 8 or 16 bits.
  virtual int activation_bits() const { return 16; }
  // dx[m, cols] = dy[m, rows] W. Throws Error(usage) where the form cannot be trained through.
  virtual void matmul_dx(kernels::ConstView dy, kernels::View dx) const;
  // Adds dy^T x to the gradient. Does nothing where parameter() is null.
  virtual void add_dw(kernels::ConstView dy, kernels::ConstView x);
  // out[i] = row ids[i] of W: an embedding's lookup.
  virtual void gather(std::span<const int32_t> ids, kernels::View out) const = 0;

  virtual Parameter* parameter() { return nullptr; }  // the f32 master, where the form is trainable
  const Parameter* parameter() const { return const_cast<Weight*>(this)->parameter(); }  // for those who only read
  virtual bool trainable() const { return false; }
  virtual Tensor to_dense() const = 0;         // [rows, cols] f32
  virtual Bitmask mask() const { return {}; }  // set bits are kept; empty where the form has no mask
  // Replaces the mask and clears what it excludes; an empty one lifts it. Throws Error(usage) where the form has no
  // trainable values.
  virtual void set_mask(Bitmask mask);
  virtual Encoded encode() const = 0;

  virtual std::string form() const = 0;
  virtual std::string element() const = 0;
  virtual int64_t stored_bytes() const = 0;     // what one product reads
  virtual int64_t nonzeros() const = 0;         // logical elements that are not zero
  virtual int64_t pruned() const { return 0; }  // logical elements that the mask leaves out

  // What lies in a file as well leaves this process's memory until it is used again: for who goes through a model
  // weight by weight. Nobody else may be using the weight meanwhile. Nothing happens to a weight that may have changed.
  virtual void let_go() const {}
};

// The one table of forms: makes a weight of what a file holds. Throws Error(input) when the arrays do not fit the
// shape, naming `where`. Where `encoded` has yet to be verified, that and what depends on the arrays waits for the
// first use of the weight (weights/deferred_weight.h).
std::shared_ptr<Weight> decode_weight(const Encoded& encoded, const std::string& where);

// A packed matrix with other activation bits stored, 8 or 16; its arrays are shared.
std::shared_ptr<Weight> with_activation_bits(const Weight& weight, int bits);
// A packed matrix that was made of `before`, with the activation bits that are stored with that, if any are.
std::shared_ptr<Weight> with_activation_bits_of(const Weight& before, std::shared_ptr<Weight> made);

}  // namespace hone
