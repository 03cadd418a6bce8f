// Ops of matrices whose parts lie with several ranks (weights/part.h), as Megatron-LM divides them (Shoeybi et al.,
// arXiv 1909.08053, section 3): rows that all ranks have go into matrices that each has some rows of, what comes out
// goes into matrices that each has some columns of, and their outputs are summands of rows that all have.
//
// All are called on every rank, in one order. Sums are in the order of the ranks, so that all have the same bits.
#pragma once

#include <memory>
#include <span>

#include "autograd/autograd.h"
#include "comm/communicator.h"
#include "weights/weight.h"

namespace hone::ops {

// x [n, m], f32 or bf16, without gaps: the sum of those of all ranks, on all.
void sum_over(Communicator& ranks, const Tensor& x);

// x itself. Backward, the gradients that ranks compute by their parts are added.
Var for_parts(const Var& x, const std::shared_ptr<Communicator>& ranks);

// y, which must come straight from linear(): the sum of those of all ranks, plus the bias (null: none), in place. Where
// y has a shape alone (linear() with `unread`), nothing is sent. Backward, each rank has the gradient of its summand
// already.
Var sum_of_parts(const Var& y, const std::shared_ptr<Communicator>& ranks, Parameter* bias);

// embedding() of a table of which this rank has rows `first` and on. Ids are of the whole.
Var embedding_of_parts(std::span<const int32_t> ids, const std::shared_ptr<Weight>& weight, int64_t first,
                       const std::shared_ptr<Communicator>& ranks);

// part [n, m] f32: the columns of all ranks side by side, [n, ranks * m].
Tensor columns_of_parts(const Tensor& part, Communicator& ranks);

}  // namespace hone::ops
