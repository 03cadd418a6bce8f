// What an engine's steps take on this machine, by what is in them: measured, kept in a file, and asked for any step.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "serve/engine.h"

namespace hone {

// Seconds at the places of a grid. Between them, and beyond the last, they are straight lines.
struct CostTable {
  std::vector<int64_t> down, across;  // rising
  std::vector<double> seconds;        // [down, across]

  double& at(size_t row, size_t column) { return seconds[row * across.size() + column]; }
  double operator()(int64_t x, int64_t y) const;
};

// A step takes longer behind one that read a piece of a prompt, and has taken the processor's caches for it, than behind
// one that wrote tokens alone.
struct StepCosts {
  // What is in a step.
  struct Shape {
    std::vector<int64_t> contexts;  // of each token that is written: those before it
    int64_t chunk = 0, first = 0;   // tokens of a prompt's piece, and those before it
    bool behind_piece = false;      // whether the step before had a piece
    bool behind_wait = false;       // whether the engine had nothing to do before
  };
  struct Steps {
    CostTable write;  // [texts, tokens before each]: of one token of each text
    CostTable piece;  // [texts, tokens]: of a piece beside so many texts, with nothing before any of them
  };

  std::array<Steps, 2> behind;  // steps that only wrote; and those with a piece
  // [tokens before, tokens]: seconds more for a piece of that size, by what stands before it
  CostTable piece_more;
  CostTable after_wait;  // [0, tokens]: seconds more for a piece of that size after the engine had nothing to do
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
