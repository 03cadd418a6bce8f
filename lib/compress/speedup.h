// How much must go of a model so that it is so many times as fast on this machine.
#pragma once

#include <functional>
#include <string>

#include "compress/structure.h"
#include "measure/speed.h"

namespace hone {

// Of one model: medians over repetitions.
struct TypicalTimes {
  double prefill_seconds = 0, step_seconds = 0;  // of the whole prompt, of a token
  double prompt = 0, batch = 1;                  // tokens of a sequence, and sequences
  double prefill_tokens_per_second() const { return batch * prompt / prefill_seconds; }
  double decode_tokens_per_second() const { return batch / step_seconds; }
};

struct Speedup {
  double prefill = 1, decode = 1;  // times as fast
  TypicalTimes before = {}, after = {};
  double least() const { return prefill < decode ? prefill : decode; }
};

// How a model is timed: as time_generation(), which whoever tests a search replaces.
using GenerationTimer =
    std::function<GenerationTimes(const Transformer& model, const GenerationShape& shape, uint64_t seed)>;

// A prompt of half the context, at most 512 tokens, then at most 16 tokens. Throws Error(usage) for a context of 1.
GenerationShape short_generation(const Config& config, DType type);

constexpr int speedup_repeats = 5;

// The two in turn, `repeats` times after one that does not count; ratios of the medians.
Speedup measure_speedup(const Transformer& before, const Transformer& after, const GenerationShape& shape,
                        int repeats = speedup_repeats, const GenerationTimer& timer = time_generation);

struct SpeedupChoice {
  std::string structure;  // "neurons:35%"
  StructureCounts counts;
  int64_t parameters = 0;  // of a model of that shape
  Speedup speedup;         // as measured of one
};

struct SpeedupSettings {
  double target = 2;
  int64_t multiple = 32;  // as Structure
  GenerationShape shape;
  GenerationTimer timer = time_generation;
  std::function<void(const SpeedupChoice& measured)> progress;  // each that is considered
};

std::string speedup_structures();  // "neurons and heads": what the rows of structures give a search, in its order

// The least of a row of structures, ever more of each layer, without which a model of that shape, with any numbers, has
// both speeds at least `target` times those of `model`. The rows say how much more goes with each step
// (StructureKind::speedup): neurons in steps of 2.5%, behind 75% heads in steps of 12.5% as well. Measured by halving:
// about six shapes. `more`: steps beyond that. Throws Error(usage), naming the greatest speed-up, where the last is not
// fast enough.
SpeedupChoice structure_for_speedup(const Transformer& model, const SpeedupSettings& settings, int more = 0);

}  // namespace hone
