#include "base/error.h"
#include "train/optimizers/adamw.h"
#include "train/optimizers/muon.h"
#include "train/optimizers/update_rule.h"

namespace hone {
namespace {

constexpr OptimizerKind rows[] = {
    {"adamw", adamw_rule},
    {"muon", muon_rule},
};

}  // namespace

OptimizerSettings::OptimizerSettings() : kind(&rows[0]) {}

const OptimizerKind& optimizer_named(const std::string& name) {
  for (const OptimizerKind& row : rows)
    if (row.name == name) return row;
  throw usage_error("unknown optimizer '{}'", name);
}

std::span<const OptimizerKind> optimizers() {
  return rows;
}

}  // namespace hone
