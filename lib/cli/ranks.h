// What a tool that several ranks run together says and takes of its machine, and how they part.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "comm/communicator.h"

namespace hone::cli {

// Where the ranks of a launch are: how many of them run on this machine, and on the very cores of this one.
struct RanksHere {
  int on_machine = 1, on_cores = 1;  // this one among them
  std::string described;             // "2 ranks: 0 on CPU 0, 1 on CPU 1"; empty for one
};

RanksHere ranks_here(Communicator& ranks);  // on every rank

// Throws Error(usage) where a launcher started this process several times.
void refuse_ranks(const std::string& tool);

// Of a rank but the first: what it would print goes nowhere, and it reads no standard input.
void silence_rank();

// Waits where the launcher would end the first rank, which says why all end, for the failure of this one.
void let_first_rank_speak();

// On every rank: throws Error(usage) where ranks were started with other options or texts, as their runs' descriptions
// say: they would train something else.
void require_alike(Communicator& ranks, const nlohmann::json& description);

// "data:4", or "" for all ranks. Throws Error(usage) where it is not of so many ranks as there are.
void check_parallel(const std::string& parallel, int ranks);

}  // namespace hone::cli
