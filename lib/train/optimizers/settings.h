// Settings of the optimizers: what all share, and those of each rule.
#pragma once

namespace hone {

struct OptimizerKind;

struct AdamWSettings {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double rate = 1;  // times the step's learning rate
};

struct MuonSettings {
  double momentum = 0.95;
};

struct OptimizerSettings {
  const OptimizerKind* kind;  // a row of optimizers(), or one of the caller's own
  double weight_decay = 0.1;  // of parameters whose `decay` is set
  AdamWSettings adamw = {};
  MuonSettings muon = {};

  OptimizerSettings();  // AdamW
};

}  // namespace hone
