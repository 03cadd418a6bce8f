// The search for a speed-up, on a machine whose times are made up: they follow from sizes alone.
#include "compress/speedup.h"

#include <doctest/doctest.h>

#include "lib/compress/models.h"
#include "model/store.h"

using namespace hone;
using namespace hone::test;

namespace {

Config wide_config() {
  Config config = small_config();
  for (LayerBlueprint& layer : config.layers) layer.ffn = 1024;
  return config;
}

// A second a parameter of the prompt, a tenth of that a step.
GenerationTimes by_size(const Transformer& model, const GenerationShape& shape, uint64_t) {
  GenerationTimes times;
  times.prefill_seconds = static_cast<double>(size_of(model).parameters);
  times.step_seconds.assign(static_cast<size_t>(shape.generate), times.prefill_seconds / 10);
  return times;
}

SpeedupSettings settings_for(double target, std::vector<SpeedupChoice>& considered) {
  SpeedupSettings s;
  s.target = target;
  s.shape = short_generation(wide_config(), DType::f32);
  s.timer = by_size;
  s.progress = [&considered](const SpeedupChoice& choice) { considered.push_back(choice); };
  return s;
}

double speedup_of(const Transformer& model, const StructureCounts& counts) {
  Transformer shape(narrowed(model.config(), counts));
  return static_cast<double>(size_of(model).parameters) / static_cast<double>(size_of(shape).parameters);
}

}  // namespace

TEST_CASE("the least structure that is fast enough is found, and all that was considered is told") {
  const auto model = fresh(wide_config());
  for (const double target : {1.2, 2.0, 3.0}) {
    CAPTURE(target);
    std::vector<SpeedupChoice> considered;
    const SpeedupSettings s = settings_for(target, considered);
    const SpeedupChoice chosen = structure_for_speedup(*model, s);
    CHECK(chosen.speedup.least() >= target);
    CHECK(chosen.speedup.prefill == doctest::Approx(speedup_of(*model, chosen.counts)));
    CHECK(chosen.speedup.decode == doctest::Approx(chosen.speedup.prefill));
    CHECK(chosen.parameters < size_of(*model).parameters);
    CHECK(considered.size() > 3);
    for (const SpeedupChoice& c : considered) {
      if (c.speedup.least() < chosen.speedup.least()) CHECK(c.speedup.least() < target);
      CHECK(c.speedup.after.prefill_seconds == doctest::Approx(static_cast<double>(c.parameters)));
    }
    // One step less, which halving has measured, was too slow.
    double next = 1;
    for (const SpeedupChoice& c : considered)
      if (c.speedup.least() < target) next = std::max(next, c.speedup.least());
    CHECK(next < target);
    // A step more takes more.
    CHECK(structure_for_speedup(*model, s, 1).parameters < chosen.parameters);
  }
}

TEST_CASE("a speed-up that no structure has is refused with the greatest there is") {
  const auto model = fresh(wide_config());
  std::vector<SpeedupChoice> considered;
  const SpeedupSettings s = settings_for(900, considered);
  const std::string refusal = failure([&] { structure_for_speedup(*model, s); });
  CHECK(refusal.starts_with("2 a speed-up of 900 is more than is possible here"));
  CHECK(considered.size() == 1);
}

TEST_CASE("speeds are ratios of medians: the first times and one slow repetition do not count") {
  const auto model = fresh(), other = fresh();
  GenerationShape shape = short_generation(small_config(), DType::f32);
  CHECK(shape.prompt == 48);
  CHECK(shape.generate == 16);
  const GenerationTimer timer = [&](const Transformer& timed, const GenerationShape&, uint64_t i) {
    GenerationTimes times;
    const double slow = i == 0 || i == 2 ? 100 : 1;
    times.prefill_seconds = slow * (&timed == model.get() ? 4 : 2);
    times.step_seconds = {slow * (&timed == model.get() ? 0.5 : 0.1)};
    return times;
  };
  const Speedup s = measure_speedup(*model, *other, shape, 5, timer);
  CHECK(s.prefill == doctest::Approx(2));
  CHECK(s.decode == doctest::Approx(5));
  CHECK(s.before.prefill_tokens_per_second() == doctest::Approx(12));
  CHECK(s.after.decode_tokens_per_second() == doctest::Approx(10));
  Config one = small_config();
  one.context = 1;
  CHECK(failure([&] { short_generation(one, DType::f32); }).starts_with("2 a context of 1"));
}
