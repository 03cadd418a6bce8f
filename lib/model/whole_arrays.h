// Arrays that lie with several ranks, for the one that writes them whole.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "model/transformer.h"

namespace hone {

struct KeptArray {
  Tensor tensor;  // this rank's part; promised where another rank keeps it
  int row = 0;    // of the grid: who does, in each column of its row (RankGrid::place())
  RankPart part = {};

  // Of a parameter, or of what every rank that has it keeps of one.
  static KeptArray of(Tensor tensor, const RankPart& part) { return {std::move(tensor), part.first(), part}; }
};
using KeptArrays = std::map<std::string, KeptArray>;  // the same names on every rank

// On every rank of the grid: asks the others for what they keep, as long as `f` runs on the first rank, where `whole`
// gives arrays by name, one at a time. Elsewhere f is not run. What it throws is thrown there alone.
using WholeArray = std::function<Tensor(const std::string& name)>;
void with_whole_arrays(const RankGrid& grid, const KeptArrays& arrays, const std::function<void(const WholeArray&)>& f);

// The ranks that have parts of this model, or this one alone.
RankGrid grid_of(const Transformer& model);

// On every rank that has a part of the model: f(), which no signal cuts off on one of them alone. Before it, Stopped on
// all where one has received a signal.
void in_step(const Transformer& model, const std::function<void()>& f);

}  // namespace hone
