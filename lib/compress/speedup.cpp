#include "compress/speedup.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/stop.h"
#include "report/statistics.h"

namespace hone {
namespace {

constexpr int repeats = 5;

// Neurons first: of what a layer gives, a model of 4 heads of 64 loses a hundred times as much with a quarter of its
// heads as with a third of its neurons (docs/results/structured.md).
std::vector<std::string> structures() {
  std::vector<std::string> all;
  for (int step = 1; step <= 30; ++step) all.push_back(fmt::format("neurons:{}%", 2.5 * step));
  for (int step = 1; step <= 7; ++step)
    all.push_back(fmt::format("neurons:{}%,heads:{}%", 75 + 2.5 * step, 12.5 * step));
  return all;
}

std::optional<SpeedupChoice> choice_of(const std::string& structure, const Config& config, int64_t multiple) {
  Structure s = parse_structure(structure);
  s.multiple = multiple;
  try {
    return SpeedupChoice{structure, structure_counts(s, config), {}};
  } catch (const Error&) {  // heads do not come out as whole groups, or a layer has too few units
    return std::nullopt;
  }
}

}  // namespace

Speedup measure_speedup(const Transformer& before, const Transformer& after, const GenerationShape& shape, int times) {
  std::vector<double> prefill[2], decode[2];
  for (int i = 0; i <= times; ++i)
    for (const int which : {0, 1}) {
      check_stop();
      const GenerationTimes t = time_generation(which == 0 ? before : after, shape, static_cast<uint64_t>(i));
      if (i == 0) continue;
      prefill[which].push_back(t.prefill_seconds);
      decode[which].push_back(median(t.step_seconds));
    }
  return {median(prefill[0]) / median(prefill[1]), median(decode[0]) / median(decode[1])};
}

SpeedupChoice structure_for_speedup(const Transformer& model, const SpeedupSettings& s, int more) {
  std::vector<SpeedupChoice> choices;
  for (const std::string& structure : structures())
    if (const auto choice = choice_of(structure, model.config(), s.multiple))
      if (choices.empty() || choice->counts != choices.back().counts) choices.push_back(*choice);
  if (choices.empty()) throw usage_error("nothing can be taken out of the model's layers");
  const auto measure = [&](SpeedupChoice& choice) {
    Transformer shape(narrowed(model.config(), choice.counts));
    initialize(shape, 1);
    choice.speedup = measure_speedup(model, shape, s.shape, repeats);
    if (s.progress) s.progress(choice.structure, choice.speedup);
    return choice.speedup.least() >= s.target;
  };
  if (!measure(choices.back()))
    throw usage_error(
        "a speed-up of {} is more than is possible here: without {} prefill is {:.2f} and decode {:.2f} times as fast",
        s.target, choices.back().structure, choices.back().speedup.prefill, choices.back().speedup.decode);
  size_t low = 0, high = choices.size() - 1;  // `high` is fast enough
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (measure(choices[middle]))
      high = middle;
    else
      low = middle + 1;
  }
  const size_t chosen = std::min(high + static_cast<size_t>(more), choices.size() - 1);
  if (chosen != high) measure(choices[chosen]);
  return choices[chosen];
}

}  // namespace hone
