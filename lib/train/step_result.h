// What a step of training reports, and its parts: what single batches of it report.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "nn/call.h"

namespace hone {

struct StepResult {
  double loss = 0;           // of the first objective: nats a token, mean over the batches
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
  int64_t tokens = 0;
  int64_t context = 0;                  // tokens of a window
  double minimized = 0;                 // the sum of all terms
  double router_loss = 0;               // what routers added to it, mean over the batches
  std::map<std::string, double> terms;  // of what was minimized, by name and weighted
  // Of exits, by their depth: the sum of the losses (nats a token) of the batches that trained it, and how many did.
  std::map<std::string, std::pair<double, int64_t>> exit_losses;
  int64_t optimizer_bytes = 0;        // what the optimizer keeps, in this process
  int64_t activation_bytes = 0;       // the most that tensors took at once beside what stays after the step
  std::vector<EncoderLoad> encoders;  // what went through each of the model's; none: it has none
  int64_t rows = 0, data_rows = 0;    // that were computed, and those of them that hold data
  int64_t pairs = 0;                  // of parts that were contrasted
  ModelDepth depth;                   // by layer; empty for a model without routers of depth
  ModelRouting routing;               // by layer, over the batches; empty for a model without mixtures
};

// Adds what a batch of the step reports: sums are of its batches in their order, whoever computed them.
void add(StepResult& to, const StepResult& batch);

// A batch's report for other ranks, and back. In a binary form of JSON no bit of it is lost.
nlohmann::json packed(const StepResult& batch);
StepResult unpacked(const nlohmann::json& all);

}  // namespace hone
