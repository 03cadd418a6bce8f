#include "model/division.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "base/rows.h"

namespace hone {

// Each in a file of its own, model/divisions/NAME.cpp.
DivisionKind tensor_division();
DivisionKind expert_division();

std::span<const DivisionKind> divisions() {
  static const DivisionKind rows[] = {tensor_division(), expert_division()};
  return rows;
}

const DivisionKind& division_named(std::string_view name) {
  return row_called(divisions(), name, "division of a model");
}

std::vector<std::string> division_forms(std::string_view ranks) {
  std::vector<std::string> forms;
  for (const DivisionKind& row : divisions()) forms.push_back(fmt::format("{}:{}", row.name, ranks));
  return forms;
}

ModelRanks::ModelRanks(const DivisionKind& kind, const std::shared_ptr<Communicator>& ranks) {
  if (!ranks || ranks->size() == 1) return;
  way = &kind;
  group = ranks;
}

Shares ModelRanks::shares() const {
  Shares shares;
  if (group) shares.*way->share = {group->rank(), group->size()};
  return shares;
}

void ModelRanks::check(const Config& config) const {
  if (group) way->check(config, group->size());
}

void ModelRanks::check_beside(const Config& config, const Config& other) const {
  check(config);
  const bool divided = shape_of_one(config).padded_vocabulary != config.padded_vocabulary;
  if (divided && config.padded_vocabulary != other.padded_vocabulary)
    throw usage_error("its vocabulary is padded to {}, that of the model beside it to {}", config.padded_vocabulary,
                      other.padded_vocabulary);
}

void ModelRanks::require_any(const Config& config) const {
  check(config);
  if (group && way->require_any) way->require_any(config, group->size());
}

Config ModelRanks::shape_of_one(const Config& config) const {
  return group && way->shape_of_one ? way->shape_of_one(config, group->size()) : config;
}

namespace {

// The ranks of this one's row and column, of rows of `width`. Of one row or column nothing need be split.
std::pair<std::shared_ptr<Communicator>, std::shared_ptr<Communicator>> row_and_column(
    const std::shared_ptr<Communicator>& all, int width) {
  if (width < 1 || all->size() % width != 0) throw internal_error("{} ranks in rows of {}", all->size(), width);
  if (width == 1) return {alone(), all};
  if (width == all->size()) return {all, alone()};
  const auto column = all->split(all->rank() % width);
  return {all->split(all->rank() / width), column};
}

}  // namespace

RankGrid RankGrid::of(std::shared_ptr<Communicator> all) {
  return {all, all, all};
}

RankGrid RankGrid::of(std::shared_ptr<Communicator> all, const DivisionKind& way, int width) {
  RankGrid grid;
  std::shared_ptr<Communicator> row;
  std::tie(row, grid.copies) = row_and_column(all, width);
  grid.row = ModelRanks(way, row);
  grid.data = way.own_batches ? all : grid.copies;
  grid.all = std::move(all);
  return grid;
}

}  // namespace hone
