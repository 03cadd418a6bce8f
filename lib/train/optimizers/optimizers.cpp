#include <algorithm>

#include "base/rows.h"
#include "train/optimizers/adamw.h"
#include "train/optimizers/muon.h"
#include "train/optimizers/update_rule.h"

namespace hone {
namespace {

constexpr OptimizerKind rows[] = {
    {"adamw", "AdamW", "", adamw_rule, adamw_numbers, true},
    {"muon", "Muon", "for the matrices of blocks with AdamW for the rest", muon_rule, muon_numbers, false, true},
};

}  // namespace

double OptimizerNumbers::operator[](const OptimizerNumber& number) const {
  for (const auto& [set, value] : values_)
    if (set == &number) return value;
  return number.initial;
}

void OptimizerNumbers::set(const OptimizerNumber& number, double value) {
  for (auto& [set, there] : values_)
    if (set == &number) {
      there = value;
      return;
    }
  values_.emplace_back(&number, value);
}

OptimizerSettings::OptimizerSettings() : kind(&rows[0]) {}

const OptimizerKind& optimizer_named(const std::string& name) {
  return row_called(rows, name, "optimizer");
}

std::vector<std::pair<const OptimizerNumber*, double>> numbers_of_optimizers() {
  std::vector<std::pair<const OptimizerNumber*, double>> all;
  for (const OptimizerKind& row : rows)
    for (const OptimizerNumber* number : row.numbers)
      if (std::ranges::find(all, number, &std::pair<const OptimizerNumber*, double>::first) == all.end())
        all.emplace_back(number, number->initial);
  return all;
}

std::span<const OptimizerKind> optimizers() {
  return rows;
}

}  // namespace hone
