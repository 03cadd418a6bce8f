#include "compress/speedup.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/spelling.h"
#include "base/stop.h"
#include "model/store.h"
#include "report/statistics.h"

namespace hone {
namespace {

// Those of a search, in the order in which it comes to them.
std::vector<const StructureKind*> searched() {
  std::vector<const StructureKind*> kinds;
  for (const StructureKind& kind : structure_kinds())
    if (kind.speedup.percent > 0) kinds.push_back(&kind);
  std::ranges::stable_sort(kinds, {}, [](const StructureKind* kind) { return kind->speedup.behind; });
  return kinds;
}

// Ever more, until all of something would go.
std::vector<std::string> structures() {
  const std::vector<const StructureKind*> kinds = searched();
  std::vector<std::string> all;
  for (int step = 1; !kinds.empty(); ++step) {
    std::string text;
    for (const StructureKind* kind : kinds) {
      const double percent = kind->speedup.percent * (step - kind->speedup.behind);
      if (percent >= 100) return all;
      if (percent > 0) text += fmt::format("{}{}:{}%", text.empty() ? "" : ",", kind->name, percent);
    }
    if (!text.empty()) all.push_back(text);
  }
  return all;
}

std::optional<SpeedupChoice> choice_of(const std::string& structure, const Config& config, int64_t multiple) {
  Structure s = parse_structure(structure);
  s.multiple = multiple;
  try {
    return SpeedupChoice{structure, structure_counts(s, config), 0, {}};
  } catch (const Error&) {  // heads do not come out as whole groups, or a layer has too few units
    return std::nullopt;
  }
}

}  // namespace

std::string speedup_structures() {
  std::vector<std::string> names;
  for (const StructureKind* kind : searched()) names.emplace_back(kind->name);
  return each_of(names);
}

GenerationShape short_generation(const Config& config, DType type) {
  GenerationShape shape;
  shape.prompt = std::clamp<int64_t>(config.context / 2, 1, 512);
  shape.generate = std::min<int64_t>(16, config.context - shape.prompt);
  shape.type = type;
  if (shape.generate < 1) throw usage_error("a context of 1 leaves nothing to measure a speed of");
  return shape;
}

Speedup measure_speedup(const Transformer& before, const Transformer& after, const GenerationShape& shape, int times,
                        const GenerationTimer& timer) {
  std::vector<double> prefill[2], decode[2];
  for (int i = 0; i <= times; ++i)
    for (const int which : {0, 1}) {
      check_stop();
      const GenerationTimes t = timer(which == 0 ? before : after, shape, static_cast<uint64_t>(i));
      if (i == 0) continue;
      prefill[which].push_back(t.prefill_seconds);
      decode[which].push_back(median(t.step_seconds));
    }
  const auto typical = [&](size_t which) {
    return TypicalTimes{median(prefill[which]), median(decode[which]), static_cast<double>(shape.prompt),
                        static_cast<double>(shape.batch)};
  };
  const TypicalTimes a = typical(0), b = typical(1);
  return {a.prefill_seconds / b.prefill_seconds, a.step_seconds / b.step_seconds, a, b};
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
    choice.parameters = size_of(shape).parameters;
    choice.speedup = measure_speedup(model, shape, s.shape, speedup_repeats, s.timer);
    if (s.progress) s.progress(choice);
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
