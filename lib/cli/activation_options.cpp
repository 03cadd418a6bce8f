#include "cli/activation_options.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/log.h"
#include "base/spelling.h"
#include "cli/effects.h"
#include "cli/measure_options.h"

namespace hone::cli {
namespace {

constexpr const char *bits_column = "activation_bits", *kl_column = "activation_kl";

nlohmann::json activation_members(const ActivationOptions& o, int64_t eight, int64_t all, const Distance& before,
                                  const Distance& after) {
  return {{"int8_weights", eight},      {"weights", all},     {"max_loss_increase", o.max_loss_increase},
          {"loss_before", before.loss}, {"loss", after.loss}, {"kl", after.kl}};
}

int64_t count_of_8_bits(const ActivationChoice& choice) {
  return std::ranges::count_if(choice.layers, [](const ActivationLayer& layer) { return layer.bits == 8; });
}

}  // namespace

void ActivationOptions::add(CLI::App* group, const CLI::App& to) {
  app = &to;
  group
      ->add_option("--activations", activations,
                   "Of products with weights that become integers. exact: as the tool that runs the model says, then "
                   "integers of 16 bits. int8: integers of 8 bits for the weights where the loss allows; the model "
                   "says for which")
      ->check(one_of({"exact", "int8"}));
  add_fraction(group, "--max-loss-increase", max_loss_increase,
               "With --activations int8: what the loss may grow by that, as a part of it");
}

void ActivationOptions::check() const {
  if (!asked() && given(*app, "--max-loss-increase"))
    throw usage_error("--max-loss-increase has no effect without --activations int8");
}

void ActivationOptions::check_text(const CalibrationText& text, const Model& model) const {
  if (!asked()) return;
  if (text.windows == 0)
    throw usage_error(
        "--activations int8 needs windows of text that its cost is measured on: give --data FILE, or --calibration "
        "FILE");
  require_room_for_loss(some_windows(text, divergence_windows), "--activations int8", model);
}

std::optional<ActivationChoice> choose_activations(const ActivationOptions& o, const CalibrationText& text,
                                                   Transformer& model, const std::vector<std::string>& names) {
  if (!o.asked() || activation_layers(model, names).empty()) return std::nullopt;
  ActivationSettings settings;
  settings.text = &text;
  settings.max_loss_increase = o.max_loss_increase;
  std::optional<Progress> progress(std::in_place);
  settings.progress = [&](int64_t done, int64_t all) {
    progress->show(fmt::format("8-bit activations of weight {} of {}", done, all));
  };
  ActivationChoice choice = hone::choose_activations(model, names, settings);
  progress.reset();
  log_info("8-bit activations for {} of {}: loss {:.5f} without, {:.5f} with them", count_of_8_bits(choice),
           counted(choice.layers.size(), "weight"), choice.before.loss, choice.after.loss);
  return choice;
}

nlohmann::json activation_results(const ActivationOptions& o, const std::optional<ActivationChoice>& choice) {
  if (!choice) return nullptr;
  return activation_members(o, count_of_8_bits(*choice), static_cast<int64_t>(choice->layers.size()), choice->before,
                            choice->after);
}

nlohmann::json longest_activation_results(const ActivationOptions& o) {
  constexpr int64_t most = std::numeric_limits<int64_t>::max();
  Distance longest;
  longest.loss = longest.kl = -std::numeric_limits<double>::max();  // 17 digits, two signs, and three of an exponent
  return activation_members(o, most, most, longest, longest);
}

std::vector<std::string> activation_columns() {
  return {bits_column, kl_column};
}

void set_activations(Row& row, const std::optional<ActivationChoice>& choice, const std::string& name) {
  if (!choice) return;
  for (const ActivationLayer& layer : choice->layers)
    if (layer.name == name) row.set(bits_column, int64_t{layer.bits}).set(kl_column, layer.kl);
}

}  // namespace hone::cli
