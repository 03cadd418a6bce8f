// Automatic differentiation on a linear tape.
//
// An op computes its value, and where a tape is active and an input wants a gradient it records one step. Backward
// walks the steps from last to first. Control flow in C++ is the graph; there is nothing else to build or search.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tensor/tensor.h"

namespace hone {

// A value and the slot for its gradient. Copies share both.
class Var {
 public:
  Var() = default;
  explicit Var(Tensor value, bool wants_grad = false) : node_(std::make_shared<Node>(std::move(value), wants_grad)) {}

  explicit operator bool() const { return node_ != nullptr; }
  const Tensor& value() const { return node_->value; }
  const Shape& shape() const { return node_->value.shape(); }
  bool wants_grad() const { return node_->wants_grad; }

  Tensor& grad() const { return node_->grad; }  // empty until a step has added to it
  // Adds `g` to the gradient; keeps `g` itself if it is the first, so the caller must not write to it afterwards.
  void add_grad(Tensor g) const;
  // The gradient, taken out of the slot; zeros if nothing flowed here.
  Tensor take_grad() const;
  // Gives the memory of the value back; its shape and the gradient stay. For whoever made it and knows that nobody
  // reads it any more, no step of a tape either.
  void drop_value() const { node_->value = Tensor::promised(node_->value.shape(), node_->value.dtype()); }
  // For the gradient, which a step makes of the value element by element: the value's own memory, which is dropped as
  // by drop_value(), or as much that is new where other tensors have it too. The value is still there to be read.
  Tensor memory_for_gradient() const;

 private:
  struct Node {
    Node(Tensor v, bool w) : value(std::move(v)), wants_grad(w) {}
    Tensor value, grad;
    bool wants_grad;
  };
  std::shared_ptr<Node> node_;
};

// On whose account a term is reported.
enum class LossOf {
  objective,  // what was asked to be minimized
  router,     // of a mixture of experts
  other       // what a module learns beside that
};

// A summand of what training minimizes.
struct LossTerm {
  std::string name;  // "next_token", "balance", …
  Var value;         // [1] f32
  float weight = 1;
  LossOf of = LossOf::objective;
  int64_t exit = 0;  // of the exit behind so many layers; 0: of none
};

class Tape {
 public:
  Tape();  // becomes the active tape of this thread until it is destroyed
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  static bool recording();                         // a tape is active on this thread
  static void record(std::function<void()> step);  // requires recording()

  // Seeds d(loss)/d(loss) = seed and runs all steps in reverse, releasing each as it goes. `loss` has one element.
  void backward(const Var& loss, float seed = 1.0f);
  // The same of a sum of terms: each is seeded with its weight. Terms that want no gradient are left out.
  void backward(std::span<const LossTerm> terms);
  // The same with given gradients of outputs.
  void backward(const Var& output, Tensor gradient);
  void backward(std::vector<std::pair<Var, Tensor>> outputs);
  size_t steps() const { return steps_.size(); }

 private:
  std::vector<std::function<void()>> steps_;
  Tape* outer_;
};

// Nothing is recorded on this thread while one of these lives.
class NoTape {
 public:
  NoTape();
  ~NoTape();
  NoTape(const NoTape&) = delete;
  NoTape& operator=(const NoTape&) = delete;

 private:
  Tape* outer_;
};

// Gradient checkpointing (Chen et al., arXiv 1604.06174): runs f without recording, keeps only `inputs`, and runs f
// again during the backward pass, with `again` true: what a first run reports, a second must not. f must depend on
// nothing that changes in between (random numbers are functions of where they are drawn), and must give as many outputs
// both times. Inputs and outputs may be empty.
using Recomputed = std::function<std::vector<Var>(const std::vector<Var>& inputs, bool again)>;
std::vector<Var> recompute(const Recomputed& f, const std::vector<Var>& inputs);

// A trainable array with its gradient. Weights and norms own these; the optimizer, pruning and saving visit them.
struct Parameter {
  Tensor value;           // f32
  Tensor grad;            // f32, same shape; allocated by the first gradient
  bool has_grad = false;  // false: `grad` holds nothing to be added to, and the first writer overwrites it
  bool trainable = true;
  bool decay = false;    // weight decay applies: matrices only
  uint64_t version = 0;  // counts changes of `value`: derived copies compare it
};

// The gradient of `p` as an array to add to: allocated and cleared if it holds nothing yet.
Tensor& gradient_to_add(Parameter& p);

}  // namespace hone
