// What a tool that several ranks run together says and takes of its machine, and how they part.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/division.h"

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

// How many "data:4" or "data:2,tensor:2" names, which threads of one process can be; 1 for "". Error(usage) as below, and
// for more than threads should be.
int ranks_named(const std::string& parallel);

// On every rank, of "data:4", "data:2,tensor:2" or "" (each has the whole model): how they work together. Throws
// Error(usage) where it is not of so many ranks as there are, where those of a row would not compute alike, and where
// the model is to be divided in two ways at once.
RankGrid parallel_grid(const std::string& parallel, const std::shared_ptr<Communicator>& ranks);
// These, where they can divide such a model as they do the one `beside` it. Else nobody, as a warning says of `what`
// ("teacher 'a.h5'"): each has the whole of it.
ModelRanks if_they_divide(const ModelRanks& ranks, const Config& config, const Config& beside, const std::string& what);
// On every rank: the largest number that one of them gave.
double largest(Communicator& ranks, double mine);
// The same of a tool that ranks run by parts of one model alone, "tensor:2"; nobody for "" in one process. They must
// have been started with the same `arguments`.
ModelRanks parallel_parts(const std::string& parallel, const std::shared_ptr<Communicator>& ranks,
                          const std::string& tool, const std::vector<std::string>& arguments);
std::string parallel_grid_help();    // of the option that it reads
std::string parallel_parts_forms();  // for the help of parallel_parts(): "each matrix (tensor:2) or …"

}  // namespace hone::cli
