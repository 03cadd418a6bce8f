#include "cli/expert_options.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/error.h"
#include "base/log.h"
#include "base/units.h"
#include "cli/option_values.h"

namespace hone::cli {
namespace {

constexpr const char *shape_group = "Mixture of experts", *routing_group = "Routing";
constexpr double default_bias_rate = 1e-3, default_balance_weight = 1e-2, default_upcycle_noise = 0.02;

double number(const std::string& option, const std::string& text) {
  try {
    size_t end = 0;
    const double value = std::stod(text, &end);
    if (end == text.size() && std::isfinite(value)) return value;
  } catch (const std::exception&) {
  }
  throw usage_error("{}: '{}' is not a number", option, text);
}

// "2:0.5" or "1": the temperature of the first step and of the last.
std::pair<double, double> temperatures(const std::string& text) {
  const size_t colon = text.find(':');
  const double from = number("--router-temperature", text.substr(0, colon));
  const double to = colon == std::string::npos ? from : number("--router-temperature", text.substr(colon + 1));
  if (!(from > 0 && to > 0))
    throw usage_error(
        "--router-temperature '{}': noise needs temperatures above 0; without noise use --router-noise none", text);
  return {from, to};
}

// none, aux[:WEIGHT] or bias[:RATE].
void parse_balance(const std::string& text, RouterTraining& r) {
  const size_t colon = text.find(':');
  const std::string kind = text.substr(0, colon);
  double* value = kind == "aux" ? &r.balance_weight : kind == "bias" ? &r.bias_rate : nullptr;
  if (text == "none") return;
  if (!value)
    throw usage_error("--balance '{}' is not known; choose none, aux:WEIGHT (aux:0.01) or bias:RATE (bias:0.001)",
                      text);
  *value = colon != std::string::npos ? number("--balance", text.substr(colon + 1))
           : kind == "aux"            ? default_balance_weight
                                      : default_bias_rate;
  if (!(*value > 0)) throw usage_error("--balance '{}': the number must be above 0; --balance none turns it off", text);
}

void warn_of_unusual(int64_t experts) {
  if (experts < 8)
    log_warning(
        "{} experts: below 8 there is little to choose from, and a mixture gains little over a dense layer; 8 to 32 "
        "are "
        "recommended",
        experts);
  if (experts > 32)
    log_warning(
        "{} experts: above 32 each sees too few tokens of a small run to learn from, and too few rows at a time to "
        "compute at "
        "speed; 8 to 32 are recommended",
        experts);
}

}  // namespace

nlohmann::json describe(const RouterTraining& r) {
  return {{"noise", static_cast<int>(r.noise)},
          {"temperature", {r.temperature_from, r.temperature_to}},
          {"balance_weight", r.balance_weight},
          {"bias_rate", r.bias_rate},
          {"z_weight", r.z_weight},
          {"capacity_factor", r.capacity_factor}};
}

bool has_mixtures(const Config& config) {
  for (const LayerBlueprint& layer : config.layers)
    if (layer.experts > 0) return true;
  return false;
}

void ExpertOptions::add(RunOptions& run) {
  options_ = &run;
  run.group(shape_group, "Of a new model, or of a dense one that --init turns into a mixture; see docs/experts.md");
  run.count("--experts", experts,
            "Experts in place of a layer's feed-forward; 8 to 32 are recommended (default: none, dense)")
      .shapes(Shapes::model);
  run.count("--top-k", top_k, "Experts that each token goes through (default: 2)").shapes(Shapes::model);
  run.count("--shared-experts", shared_experts, "Experts beside them that every token goes through (default: 0)")
      .shapes(Shapes::model);
  run.flag("--shared-gate", shared_gate, "Weight what these give by the sigmoid of a learned score of each token")
      .shapes(Shapes::model);
  run.count("--expert-ffn", ffn, "Hidden width of each expert (default: that of the dense feed-forward)")
      .shapes(Shapes::model);
  run.text("--moe-layers", layers, "Layers that get experts: all, every:N (every N-th), or a list such as 1,3,5")
      .shown_default("all")
      .shapes(Shapes::model);
  run.text("--router", router, "Scores: softmax over the experts, or sigmoid of each", {"softmax", "sigmoid"})
      .shown_default("softmax")
      .shapes(Shapes::model);
  run.fraction("--upcycle-noise", upcycle_noise,
               "With --init: relative noise on the copies of the dense feed-forward (default: 0.02)")
      .shapes(Shapes::model);
  run.group(routing_group, "How the routers of mixtures are trained");
  run.text("--router-noise", noise, "On the router's logits in training: none, gaussian or gumbel",
           {"none", "gaussian", "gumbel"})
      .shown_default("none")
      .shapes(Shapes::derived, "routing");
  run.text("--router-temperature", temperature, "Of the noise: one number, or START:END, geometric over the steps")
      .type_name("NUMBER[:NUMBER]")
      .shown_default("1")
      .shapes(Shapes::derived, "routing");
  run.text("--balance", balance,
           "Load of the experts: none, aux:WEIGHT (a loss) or bias:RATE (moves the choice, no loss)")
      .shown_default("aux:0.01")
      .shapes(Shapes::derived, "routing");
  run.number("--router-z-loss", z_loss,
             "Weight of the loss that keeps the router's logits small, such as 1e-3; 0: none", {.least = 0})
      .shown_default("0")
      .shapes(Shapes::derived, "routing");
  run.number("--capacity-factor", capacity_factor,
             "Most tokens of an expert in a batch, as a multiple of an even share; the rest is dropped; 0: drop none",
             {.least = 0})
      .shown_default("0")
      .shapes(Shapes::derived, "routing");
}

std::string ExpertOptions::first_option() const {
  for (const char* group : {shape_group, routing_group})
    for (const std::string& name : options_->in_group(group))
      if (options_->given(name)) return name;
  return "";
}

void ExpertOptions::check(bool init, bool resume) const {
  if (upcycle_noise && !init && !resume)
    throw usage_error("--upcycle-noise is of a dense model that --init turns into a mixture");
  if (!experts && !resume)
    for (const std::string& name : options_->in_group(shape_group))
      if (options_->given(name)) throw usage_error("{} is of a mixture of experts; give --experts too", name);
  if (experts.value_or(1) < 1)
    throw usage_error("--experts must be at least 1, not {}; leave it out for a dense model", *experts);
  if (shared_experts.value_or(0) < 0) throw usage_error("--shared-experts must be at least 0, not {}", *shared_experts);
  if (shared_gate && experts && shared_experts.value_or(0) < 1)
    throw usage_error("--shared-gate is of shared experts; give --shared-experts too");
  if (ffn.value_or(1) < 1) throw usage_error("--expert-ffn must be at least 1, not {}", *ffn);
  if (top_k.value_or(1) < 1) throw usage_error("--top-k must be at least 1, not {}", *top_k);
  if (experts && top_k.value_or(2) > *experts)
    throw usage_error("--top-k {} is more than the {} experts", top_k.value_or(2), *experts);
  if (upcycle_noise.value_or(0) >= 1) throw usage_error("--upcycle-noise must be below 1, not {}", *upcycle_noise);
  temperatures(temperature.value_or("1"));
  if (temperature && noise.value_or("none") == "none")
    throw usage_error("--router-temperature needs --router-noise gaussian or gumbel");
  RouterTraining ignored;
  parse_balance(balance.value_or("none"), ignored);
}

MixtureShape ExpertOptions::shape(size_t count) const {
  MixtureShape s;
  s.experts = experts.value();
  s.top_k = top_k.value_or(2);
  s.shared_experts = shared_experts.value_or(0);
  s.shared_gate = shared_gate;
  s.router = router.value_or("softmax") == "sigmoid" ? RouterKind::sigmoid : RouterKind::softmax;
  s.layers = parse_layers("--moe-layers", layers.value_or("all"), count);
  warn_of_unusual(s.experts);
  return s;
}

Config ExpertOptions::apply(Config config) const {
  const MixtureShape s = shape(config.layers.size());
  for (size_t i = 0; i < s.layers.size(); ++i)
    if (s.layers[i] && ffn) config.layers[i].ffn = *ffn;
  return with_mixtures(std::move(config), s);
}

std::unique_ptr<Transformer> ExpertOptions::upcycled(const Transformer& dense, uint64_t seed) const {
  const Config& config = dense.config();
  if (has_mixtures(config))
    throw usage_error("--experts turns a dense model into a mixture, and this one is a mixture already");
  const MixtureShape s = shape(config.layers.size());
  for (size_t i = 0; i < s.layers.size(); ++i)
    if (s.layers[i] && ffn && *ffn != config.layers[i].ffn)
      throw usage_error("--expert-ffn {}: experts that are copies of layer {}'s feed-forward have its width, {}", *ffn,
                        i, config.layers[i].ffn);
  return upcycle(dense, s, upcycle_noise.value_or(default_upcycle_noise), seed);
}

void ExpertOptions::check_same(const Config& config) const {
  const auto same = [](const char* name, const std::optional<int64_t>& wanted, int64_t there) {
    if (wanted && *wanted != there)
      throw usage_error("{} {}: the model's mixtures have {}; resume with the same options", name, *wanted, there);
  };
  const std::vector<bool> chosen =
      layers ? parse_layers("--moe-layers", *layers, config.layers.size()) : std::vector<bool>();
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const LayerBlueprint& l = config.layers[i];
    if (layers && chosen[i] != (l.experts > 0))
      throw usage_error("--moe-layers {}: the model's layer {} is {}; resume with the same options", *layers, i,
                        l.experts > 0 ? "a mixture" : "dense");
    if (l.experts == 0) continue;
    same("--experts", experts, l.experts);
    same("--top-k", top_k, l.top_k);
    same("--shared-experts", shared_experts, l.shared_experts);
    same("--expert-ffn", ffn, l.ffn);
    if (shared_gate && !l.shared_gate)
      throw usage_error("--shared-gate: the model's mixtures have no such gate; resume with the same options");
    if (router && *router != (l.router == RouterKind::sigmoid ? "sigmoid" : "softmax"))
      throw usage_error("--router {}: the model has the other kind; resume with the same options", *router);
  }
}

RouterTraining ExpertOptions::training(const Config& config) const {
  RouterTraining r;
  if (!has_mixtures(config)) {
    if (const std::string option = first_option(); !option.empty())
      throw usage_error("{} is of mixtures of experts; the model is dense (--experts makes one)", option);
    return r;
  }
  const std::string kind = noise.value_or("none");
  r.noise = kind == "gaussian" ? RouterNoise::gaussian : kind == "gumbel" ? RouterNoise::gumbel : RouterNoise::none;
  std::tie(r.temperature_from, r.temperature_to) = temperatures(temperature.value_or("1"));
  parse_balance(balance.value_or("aux"), r);
  r.z_weight = z_loss.value_or(0);
  r.capacity_factor = capacity_factor.value_or(0);
  for (const LayerBlueprint& l : config.layers)
    if (r.capacity_factor > 0 && l.experts > 0 && r.capacity_factor * static_cast<double>(l.experts) < 1)
      throw usage_error(
          "--capacity-factor {} is less than 1/{}: the experts together could not take one choice in {}; give 1 or "
          "more",
          r.capacity_factor, l.experts, l.experts);
  return r;
}

}  // namespace hone::cli
