// What an engine's steps take on this machine, by what is in them: measured, kept in a file, and asked for any step.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "serve/engine.h"

namespace hone {

// Times of steps in seconds at places of a grid. Between them, and beyond the last, they are straight lines.
class StepCosts {
 public:
  // What is in a step.
  struct Shape {
    std::vector<int64_t> contexts;  // of each token that is written: those before it
    int64_t chunk = 0, first = 0;   // tokens of a prompt's piece, and those before it
  };

  std::vector<int64_t> rows;       // tokens that are written, the first 0
  std::vector<int64_t> chunks;     // tokens of a prompt's piece, the first 0
  std::vector<double> seconds;     // [rows, chunks], with contexts[0] tokens before each
  std::vector<int64_t> contexts;   // tokens before
  std::vector<double> row_more;    // seconds more for each token that is written, by its context
  std::vector<int64_t> pieces;     // sizes of pieces as in `chunks`, but fewer
  std::vector<double> piece_more;  // [contexts, pieces] seconds more for a piece of that size, by its context
  double after_wait = 0;           // seconds more of the first step after the engine had nothing to do
  // Times of repeated steps over their medians, rising, of steps that only write and of those with a piece; none: all
  // take the same.
  std::vector<double> spread, piece_spread;
  nlohmann::json of;  // what they were measured of

  double operator()(const Shape& shape) const;
};

// Steps of every size that an engine with these settings can have, with what the engine itself takes around them. Takes
// seconds to minutes; throws Stopped.
StepCosts measure_step_costs(const Transformer& model, const EngineSettings& settings, int64_t repeat,
                             const std::function<void(size_t done, size_t all)>& progress);
// Of anything that carries out steps, by its clock. `settings` are complete(), and those of its state.
StepCosts measure_step_costs(Executor& executor, const EngineSettings& settings, int64_t repeat,
                             const std::function<void(size_t done, size_t all)>& progress);

nlohmann::ordered_json json_of(const StepCosts& costs);
// Throws Error(input) naming `path` for what are no costs, or not those of `of`.
StepCosts read_step_costs(const std::string& path, const nlohmann::json& of);

}  // namespace hone
