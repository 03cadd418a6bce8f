#include "cli/depth_options.h"

#include <cmath>

#include "base/error.h"
#include "cli/option_values.h"
#include "model/depth_routers.h"
#include "model/exits.h"

namespace hone::cli {
namespace {

constexpr const char* default_router_layers = "every:2";

// "0.5" or "0.5:rotate".
ExitLossSettings parse_exit_loss(const std::string& text) {
  const auto wrong = [&] {
    return usage_error("--exit-loss '{}': write a weight of at least 0, and :rotate behind it for one exit a batch",
                       text);
  };
  const size_t colon = text.find(':');
  const bool rotate = colon != std::string::npos;
  if (rotate && text.substr(colon) != ":rotate") throw wrong();
  double weight = 0;
  try {
    size_t end = 0;
    weight = std::stod(text.substr(0, colon), &end);
    if (end != std::min(colon, text.size())) throw wrong();
  } catch (const std::logic_error&) {  // of stod
    throw wrong();
  }
  if (!(weight >= 0 && weight <= 1e6)) throw wrong();
  return {static_cast<float>(weight), rotate};
}

LayerDropout parse_layer_dropout(const std::string& text) {
  try {
    return layer_dropout(text);
  } catch (const Error& error) {
    throw usage_error("--layer-dropout {}: {}", text, error.what());
  }
}

}  // namespace

void DepthOptions::add(RunOptions& run) {
  options_ = &run;
  run.group("Depth", "Exits behind some layers, and layers that some tokens pass by");
  run.text("--exits", exits,
           "Places where the model may be read early: every:K, or a list such as 2,4,6 (behind so many layers). An "
           "existing model gets these and no others")
      .shapes(Shapes::model);
  run.text("--exit-loss", exit_loss,
           "Weight of the losses of all exits together, beside 1 of the last layer; W:rotate trains one exit a batch, "
           "in turn")
      .type_name("W[:rotate]")
      .shapes(Shapes::run);
  std::string rules;
  for (const SkipRule& rule : skip_rules())
    rules += fmt::format("{}{} ({})", rules.empty() ? "" : ", ", rule.name, rule.what);
  run.text(
         "--layer-dropout", dropout,
         fmt::format("Probability that a sequence passes the last layer by, and the rule of the others: {}. Without a "
                     "rule {}",
                     rules, skip_rules().front().name))
      .type_name("NUMBER[:RULE]")
      .shapes_by([this] {
        const LayerDropout asked = parse_layer_dropout(dropout);
        // A number, as it was before there was a choice of rules, or a text.
        return asked.most > 0 && asked.rule ? nlohmann::json(to_string(asked)) : nlohmann::json(asked.most);
      });
  run.fraction(
         "--depth-router", router,
         "Part of a sequence's tokens that goes through the layers of --depth-layers; a router in each chooses them "
         "(mixture of depths). Of an existing model, too: these layers and no others")
      .shapes(Shapes::model);
  run.text("--depth-layers", router_layers, "With --depth-router: all, every:N (every N-th), or a list such as 1,3,5")
      .shown_default(default_router_layers)
      .shapes(Shapes::model);
}

void DepthOptions::check() const {
  parse_exit_loss(exit_loss);
  parse_layer_dropout(dropout);
  if (router_layers && !router) throw usage_error("--depth-layers needs --depth-router: which part of the tokens?");
  if (router && !(*router > 0 && *router < 1))
    throw usage_error(
        "--depth-router must be above 0 and below 1, not {}; leave it out for layers that all tokens go through",
        *router);
}

Config DepthOptions::routed(Config there) const {
  if (!router) return there;
  const std::vector<bool> chosen =
      parse_layers("--depth-layers", router_layers.value_or(default_router_layers), there.layers.size());
  std::vector<int64_t> layers;
  for (size_t i = 0; i < chosen.size(); ++i)
    if (chosen[i]) layers.push_back(static_cast<int64_t>(i));
  set_depth_routers(there, layers, *router);
  return there;
}

std::vector<int64_t> DepthOptions::depths(const Config& there) const {
  if (!exits) return exits_of(there);
  try {
    return parse_exits(*exits, static_cast<int64_t>(there.layers.size()));
  } catch (const Error& error) {
    throw usage_error("--exits {}: {}", *exits, error.what());
  }
}

void DepthOptions::training(const Config& config, StepSettings& step) const {
  if (options_->given("--exit-loss")) require_exits(config, "--exit-loss");
  if (!exits_of(config).empty()) step.objectives.exits = parse_exit_loss(exit_loss);
  step.layer_dropout = parse_layer_dropout(dropout);
}

}  // namespace hone::cli
