#include "train/optimizers/adamw.h"
#include "train/optimizers/update_rule.h"

namespace hone {
namespace {

constexpr OptimizerKind rows[] = {
    {"adamw", adamw_rule},
};

}  // namespace

OptimizerSettings::OptimizerSettings() : kind(&rows[0]) {}

std::span<const OptimizerKind> optimizers() {
  return rows;
}

}  // namespace hone
