// Ways in which several ranks have one model together, each a row of the table in division.cpp; and who they are.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comm/communicator.h"
#include "model/config.h"
#include "weights/part.h"

namespace hone {

// What training may be asked for, and looks at more of a model than one rank may have.
enum class TrainingWish { pruning, rounding, teacher_cache, experts, layer_dropout, eight_bits };

struct RefusedWish {
  TrainingWish wish;
  const char* why;  // "ranks the weights of whole matrices"
};

struct DivisionKind {
  std::string_view name;             // with the number of ranks as a person gives it: "tensor:2"
  const char* what;                  // they divide: "each matrix"
  Share Shares::*share;              // that modules ask for what a rank has
  bool own_batches;                  // in training each rank computes batches of its own; otherwise all have the same
  bool elementwise;                  // has parts of single arrays: optimizers can take steps of single elements alone
  std::vector<RefusedWish> refuses;  // of training
  // Of two ranks or more. Throws Error(usage), naming both, where so many do not divide what there is in such a model,
  // and for a model with what they cannot divide.
  void (*check)(const Config& config, int64_t ranks);
  // Throws Error(usage) for a model with nothing that they would divide. Null: there is none.
  void (*require_any)(const Config& config, int64_t ranks);
  // The shape of what each of them computes. Null: that of the whole.
  Config (*shape_of_one)(Config config, int64_t ranks);
};

std::span<const DivisionKind> divisions();
const DivisionKind& division_named(std::string_view name);        // Error(usage) lists the names
std::vector<std::string> division_forms(std::string_view ranks);  // "tensor:RANKS" of each row, for these RANKS

// Who has the other parts of a model, and calls what computes together.
struct ModelRanks {
  ModelRanks() = default;                                                            // nobody
  ModelRanks(const DivisionKind& kind, const std::shared_ptr<Communicator>& ranks);  // of one, or null: nobody

  explicit operator bool() const { return group != nullptr; }
  int size() const { return group ? group->size() : 1; }
  Shares shares() const;                   // of this one
  void check(const Config& config) const;  // DivisionKind::check
  // The same, and Error(usage) where a rank would have other tokens of the vocabulary than of that of `other`, beside
  // which its predictions are to be compared.
  void check_beside(const Config& config, const Config& other) const;
  void require_any(const Config& config) const;     // the same, and DivisionKind::require_any
  Config shape_of_one(const Config& config) const;  // DivisionKind::shape_of_one

  const DivisionKind* way = nullptr;
  std::shared_ptr<Communicator> group = nullptr;  // all of them
};

// The ranks of a run in rows, which have one model together. Those of a column have the same of it. Ranks of a row are
// neighbours, so that they share a machine where launchers fill one after the other.
struct RankGrid {
  std::shared_ptr<Communicator> all = alone();
  std::shared_ptr<Communicator> data = alone();  // that share a step's batches: this one's column, or all (own_batches)
  std::shared_ptr<Communicator> copies = alone();  // this one's column
  ModelRanks row = {};                             // this one's

  // On every rank: each has the whole model.
  static RankGrid of(std::shared_ptr<Communicator> all);
  // The same in rows of so many, a divisor of the ranks, that divide the model in this way.
  static RankGrid of(std::shared_ptr<Communicator> all, const DivisionKind& way, int width);
  // In `all`: who computes batches as rank `turn` of `data` does; of the ranks with other parts that one, by column.
  int place(int turn, int column) const { return turn * (all->size() / data->size()) + column; }
  std::shared_ptr<Communicator> group() const { return row ? row.group : alone(); }  // of the row
};

}  // namespace hone
