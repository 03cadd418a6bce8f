// Linear layers and norms. Rows of different kinds (Batch::kinds) may go through weights of their own, by the product
// of experts.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nn/blueprint.h"
#include "nn/call.h"
#include "nn/parameters.h"
#include "ops/linear.h"
#include "ops/norm.h"

namespace hone {

// A layer may be a part of a whole, of which the ranks of the call have one each. Of the matrix's rows: it gives a part
// of the outputs. Of its columns: it takes a part of the inputs, and what comes out is the sum over the ranks. The bias
// of rows is divided with them, that of columns is whole.
struct Linear {
  std::shared_ptr<Weight> weight;
  std::shared_ptr<Parameter> bias;  // null: none
  RankPart part = {};
  // Of rows of the other kinds: then `weight` is text's alone. None: all rows share it. Their names are in files.
  std::vector<Linear> others = {};
  std::vector<std::string> other_names = {};

  // A weight without numbers, which take no memory yet, and a bias of 0, of a whole of so many outputs and inputs; and
  // as many for each of the other kinds.
  static Linear make(int64_t outputs, int64_t inputs, bool with_bias, const std::vector<std::string>& others = {},
                     const RankPart& part = {});
  // `eight_bits` (Call::eight_bits_at) and `unread`, where nobody reads the values that come out: see ops::linear().
  Var forward(const Var& x, const Call& call, std::optional<ops::EightBits> eight_bits = {}, bool unread = false) const;
  // `gated` and `parts`: see ParameterInfo. Gates and values are the parts of a gated one.
  void visit(const Place& at, Role role, Visitor& visitor, bool gated = false, std::vector<int64_t> parts = {});

 private:
  Var forward_by_kind(const Var& x, const Call& call, std::optional<ops::EightBits> eight_bits) const;
};

struct Norm {
  NormKind kind = norm_named("rms_norm");
  float epsilon = 1e-5f;
  std::shared_ptr<Parameter> gain;
  std::shared_ptr<Parameter> bias;  // null: none
  std::vector<Norm> others = {};    // as of Linear
  std::vector<std::string> other_names = {};
  std::shared_ptr<Parameter> ones = nullptr;  // where there are others: the gain of what all kinds have in common

  static Norm make(const BlockBlueprint& blueprint, const std::vector<std::string>& others = {});  // gain 1, bias 0
  // RMS over so many numbers of queries or keys, whatever the others are.
  static Norm of_heads(const BlockBlueprint& blueprint, int64_t numbers);
  ops::Normed forward(const Var& residual, const Var& branch, const Call& call) const;
  ops::Normed forward(const Var& residual, const Var& branch, DType type) const;  // of text, where kinds differ
  void visit(const Place& at, NormOf of, Visitor& visitor);
};

}  // namespace hone
