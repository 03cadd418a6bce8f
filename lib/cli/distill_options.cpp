#include "cli/distill_options.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/log.h"
#include "cli/effects.h"
#include "compress/distill.h"
#include "measure/footprint.h"

namespace hone::cli {
namespace {

constexpr int64_t distilled_tokens = 4096;        // a step
constexpr int64_t most_steps = int64_t{1} << 40;  // whose windows are counted

nlohmann::json members(const DistillSettings& s, int64_t tokens, const Distilled& result) {
  return {{"steps", s.steps},          {"learning_rate", s.learning_rate},
          {"tokens", tokens},          {"scales", result.scales},
          {"norms", result.norms},     {"divergence_before", result.before},
          {"divergence", result.after}};
}

}  // namespace

void DistillOptions::add(CLI::App* group, const CLI::App& to) {
  app = &to;
  add_count(group, "--distill", steps,
            "Then train the scales, and norms, for so many steps on the divergence from the model before; 0: none");
  add_number(group, "--distill-rate", rate, "Learning rate of that", {.above = 0, .most = 1});
}

void DistillOptions::check() const {
  if (steps == 0 && given(*app, "--distill-rate")) throw usage_error("--distill-rate has no effect without --distill");
}

nlohmann::json longest_distilled(const DistillOptions& o) {
  DistillSettings s;
  s.steps = o.steps;
  s.learning_rate = o.rate;
  constexpr int64_t most = std::numeric_limits<int64_t>::max();
  const double longest = -std::numeric_limits<double>::max();  // 17 digits, two signs, and three of an exponent
  return members(s, most, {most, most, longest, longest});
}

nlohmann::json distill_scales(const DistillOptions& o, const CalibrationOptions& calibration,
                              const std::string& parent_file, Model& model, const Common& common) {
  if (o.steps == 0) return nullptr;
  const Model parent = load_model(parent_file);
  DistillSettings s;
  s.steps = o.steps;
  s.learning_rate = o.rate;
  s.type = calibration.type();
  s.seed = common.seed;
  const int64_t length = calibration.length(model);
  s.batch = std::max<int64_t>(1, distilled_tokens / length);
  const CalibrationText text = *calibration.read(model, std::min(s.steps, most_steps) * s.batch);
  text.require_text("the distillation of scales");
  Footprint need;
  need.activations = distill_bytes(*model.transformer, text, s);
  require_memory_for(need, "--distill", "use a shorter --calibration-context, or a smaller model");
  Progress progress;
  s.progress = [&](int64_t done, int64_t all, double divergence) {
    progress.show(fmt::format("distilled {} of {} steps, divergence {:.5f}", done, all, divergence));
  };
  const Distilled result = distill(*model.transformer, *parent.transformer, text, s);
  return members(s, s.steps * std::min(s.batch, text.windows) * length, result);
}

}  // namespace hone::cli
