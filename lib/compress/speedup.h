// How much must go of a model so that it is so many times as fast on this machine.
#pragma once

#include <functional>
#include <string>

#include "compress/structure.h"
#include "measure/speed.h"

namespace hone {

struct Speedup {
  double prefill = 1, decode = 1;  // times as fast
  double least() const { return prefill < decode ? prefill : decode; }
};

// The two in turn, `repeats` times after one that does not count; ratios of the medians.
Speedup measure_speedup(const Transformer& before, const Transformer& after, const GenerationShape& shape, int repeats);

struct SpeedupSettings {
  double target = 2;
  int64_t multiple = 32;  // as Structure
  GenerationShape shape;
  std::function<void(const std::string& structure, const Speedup& speedup)> progress;
};

struct SpeedupChoice {
  std::string structure;  // "neurons:35%"
  StructureCounts counts;
  Speedup speedup;  // as measured of a model of that shape
};

std::string speedup_structures();  // "neurons and heads": what the rows of structures give a search, in its order

// The least of a row of structures, ever more of each layer, without which a model of that shape, with any numbers, has
// both speeds at least `target` times those of `model`. The rows say how much more goes with each step
// (StructureKind::speedup): neurons in steps of 2.5%, behind 75% heads in steps of 12.5% as well. Measured by halving:
// about six shapes. `more`: steps beyond that. Throws Error(usage), naming the greatest speed-up, where the last is not
// fast enough.
SpeedupChoice structure_for_speedup(const Transformer& model, const SpeedupSettings& settings, int more = 0);

}  // namespace hone
