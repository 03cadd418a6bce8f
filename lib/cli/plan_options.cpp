#include "cli/plan_options.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <sstream>

#include "base/error.h"
#include "base/spelling.h"
#include "base/units.h"
#include "bench/ceilings_cache.h"
#include "bench/kernel_bench.h"
#include "cli/expert_options.h"
#include "cli/model_options.h"
#include "cli/option_values.h"
#include "model/upcycle.h"

namespace hone::cli {
namespace {

// Everything that keys may say, before it is put together.
struct Said {
  PlanSpec plan;
  ModelOptions shape;
  std::optional<MixtureShape> mixture;  // in every layer
  int64_t vocabulary = 256;
  bool shaped = false;  // some key describes a shape
};

struct Key {
  const char* name;
  std::function<void(Said&, const std::string&)> take;
};

// "12.5G", "2e9", "1.25GB".
double positive(const std::string& text) {
  const std::string number = text.ends_with('B') ? text.substr(0, text.size() - 1) : text;
  size_t length = 0;
  const double value = parse_leading_number(number, length);
  if (length != number.size() || !(value > 0)) throw usage_error("'{}' is not a number above 0", text);
  return value;
}

int64_t at_least_one(const std::string& text) {
  const int64_t value = parse_count(text);
  if (value < 1) throw usage_error("'{}' is less than 1", text);
  return value;
}

Key of_shape(const char* name, std::optional<int64_t> ModelOptions::*member) {
  return {name, [member](Said& s, const std::string& text) {
            s.shape.*member = at_least_one(text);
            s.shaped = true;
          }};
}

Key of_mixture(const char* name, int64_t MixtureShape::*member) {
  return {name, [member](Said& s, const std::string& text) {
            if (!s.mixture) s.mixture.emplace().experts = 0;  // which must be said
            (*s.mixture).*member = at_least_one(text);
            s.shaped = true;
          }};
}

const std::vector<Key>& keys() {
  static const std::vector<Key> all = {
      // layout
      {"ranks", [](Said& s, const std::string& t) { s.plan.layout.ranks = at_least_one(t); }},
      {"tensor", [](Said& s, const std::string& t) { s.plan.layout.tensor = at_least_one(t); }},
      {"expert", [](Said& s, const std::string& t) { s.plan.layout.expert = at_least_one(t); }},
      {"balance",
       [](Said& s, const std::string& t) {
         s.plan.layout.balance = positive(t);
         if (s.plan.layout.balance < 1) throw usage_error("'{}' is less than 1, an even load", t);
       }},
      {"batch", [](Said& s, const std::string& t) { s.plan.layout.batch = at_least_one(t); }},
      {"accumulate", [](Said& s, const std::string& t) { s.plan.layout.accumulate = at_least_one(t); }},
      {"recompute", [](Said& s, const std::string& t) { s.plan.layout.recompute = recompute_plan(t); }},
      {"moments", [](Said& s, const std::string& t) { s.plan.layout.optimizer.moments = moment_form(t); }},
      {"precision",
       [](Said& s, const std::string& t) {
         if (t != "f32" && t != "bf16") throw usage_error("'{}' is neither f32 nor bf16", t);
         s.plan.layout.type = t == "bf16" ? DType::bf16 : DType::f32;
       }},
      // shape
      of_shape("layers", &ModelOptions::layers),
      of_shape("dim", &ModelOptions::dim),
      of_shape("heads", &ModelOptions::heads),
      of_shape("kv_heads", &ModelOptions::kv_heads),
      of_shape("head_dim", &ModelOptions::head_dim),
      of_shape("ffn", &ModelOptions::ffn),
      of_mixture("experts", &MixtureShape::experts),
      of_mixture("top_k", &MixtureShape::top_k),
      of_mixture("shared_experts", &MixtureShape::shared_experts),
      {"vocab",
       [](Said& s, const std::string& t) {
         s.vocabulary = at_least_one(t);
         s.shaped = true;
       }},
      {"context", [](Said& s, const std::string& t) { s.plan.layout.context = at_least_one(t); }},
      // what there is
      {"flops", [](Said& s, const std::string& t) { s.plan.machine.flops = positive(t); }},
      {"efficiency", [](Said& s, const std::string& t) { s.plan.efficiency = positive(t); }},
      {"bandwidth", [](Said& s, const std::string& t) { s.plan.machine.bandwidth = positive(t); }},
      {"network", [](Said& s, const std::string& t) { s.plan.machine.network = positive(t); }},
      {"latency", [](Said& s, const std::string& t) { s.plan.machine.latency = positive(t); }},
      {"memory", [](Said& s, const std::string& t) { s.plan.memory = static_cast<double>(parse_bytes(t)); }},
      // what a run is
      {"tokens", [](Said& s, const std::string& t) { s.plan.tokens = positive(t); }},
      {"price", [](Said& s, const std::string& t) { s.plan.price = positive(t); }},
  };
  return all;
}

const Key& key_named(const std::string& name) {
  std::vector<std::string> names;
  for (const Key& key : keys()) {
    if (name == key.name) return key;
    names.emplace_back(key.name);
  }
  throw usage_error("'{}' is no key{}; there are {}", name, did_you_mean(name, names), fmt::join(names, ", "));
}

void take(Said& said, const std::string& part) {
  const size_t equals = part.find('=');
  if (equals == std::string::npos) throw usage_error("'{}' is not KEY=VALUE", part);
  const std::string name = part.substr(0, equals);
  const Key& key = key_named(name);
  try {
    key.take(said, part.substr(equals + 1));
  } catch (const Error& error) {
    throw usage_error("{}: {}", name, error.what());
  }
}

}  // namespace

PlanSpec parse_plan(const std::string& text, const Config* model) {
  Said said;
  try {
    std::istringstream parts(text);
    std::vector<std::string> names;
    for (std::string part; std::getline(parts, part, ',');) {
      take(said, part);
      names.push_back(part.substr(0, part.find('=')));
    }
    require_each_once("the plan", names);
    if (model && said.shaped) throw usage_error("the model file has a shape already; leave its numbers out");
    PlanSpec& plan = said.plan;
    plan.text = text;
    if (model) {
      plan.config = *model;
    } else {
      if (plan.layout.context > 0) said.shape.context = plan.layout.context;
      plan.config = said.shape.config(said.vocabulary);
      if (said.mixture) {
        if (said.mixture->experts == 0) throw usage_error("say how many experts a mixture has, as in experts=8");
        said.mixture->layers.assign(plan.config.layers.size(), true);
        plan.config = with_mixtures(std::move(plan.config), *said.mixture);
      }
    }
    check_plan(plan.config, plan.layout);
    if (plan.layout.ranks > 1 && plan.machine.network == 0)
      throw usage_error("say what the network gives a rank: network=BYTES a second, as in network=1.25G");
    return plan;
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("--plan {}: {}", text, error.what()));
  }
}

void measure_what_is_missing(std::vector<PlanSpec>& plans, int threads, bool refresh) {
  const auto misses = [](const PlanSpec& plan) { return plan.machine.flops == 0 || plan.machine.bandwidth == 0; };
  if (std::ranges::none_of(plans, misses)) return;
  const kernels::Ceilings ceilings = machine_ceilings(threads, refresh, product_rate);
  for (PlanSpec& plan : plans) {
    if (plan.machine.flops == 0) plan.machine.flops = matrix_peak(plan.layout.type, ceilings);
    if (plan.machine.bandwidth == 0) plan.machine.bandwidth = ceilings.read_bytes_per_second;
  }
}

Report plan_report(const std::vector<PlanSpec>& plans) {
  Report report;
  const bool mixes = std::ranges::any_of(plans, [](const PlanSpec& spec) { return has_mixtures(spec.config); });
  for (const PlanSpec& spec : plans) {
    PlanMachine machine = spec.machine;
    machine.flops *= spec.efficiency;
    const StepPlan plan = plan_step(spec.config, spec.layout, machine);
    Row row;
    row.set("plan", spec.text).set("parameters", plan.parameters).set("ranks", spec.layout.ranks);
    row.set("tensor", spec.layout.tensor).set("data", spec.layout.groups());
    if (mixes) row.set("expert", spec.layout.expert).set("active_parameters", plan.active_parameters);
    row.set("step_seconds", plan.step_seconds()).set("train_tokens_per_second", plan.tokens_per_second());
    row.set("limit", plan.limit());
    row.set("compute_seconds", plan.compute_seconds).set("update_seconds", plan.update_seconds);
    row.set("data_seconds", plan.data_seconds).set("tensor_seconds", plan.tensor_seconds);
    row.set("data_bytes", plan.data_bytes).set("tensor_bytes", plan.tensor_bytes);
    if (mixes) {
      row.set("expert_seconds", plan.expert_seconds).set("expert_bytes", plan.expert_bytes);
      row.set("expert_parameters", plan.expert_parameters);
    }
    row.set("rank_bytes", plan.memory.total()).set("parameter_bytes", plan.memory.parameters);
    row.set("optimizer_bytes", plan.memory.optimizer).set("activation_bytes", plan.memory.activations);
    if (spec.memory > 0) row.set("fits", plan.memory.total() <= spec.memory ? "yes" : "no");
    row.set("flops", plan.flops).set("flops_per_second", machine.flops);
    row.set("bandwidth", machine.bandwidth).set("network", machine.network);
    if (spec.tokens > 0) {
      const double seconds = spec.tokens / plan.tokens_per_second();
      const double rank_hours = seconds / 3600 * static_cast<double>(spec.layout.ranks);
      row.set("run_days", seconds / 86400).set("rank_hours", rank_hours);
      if (spec.price > 0) row.set("run_price", rank_hours * spec.price);
    }
    report.add(row);
  }
  for (const char* name : {"data_bytes", "tensor_bytes", "expert_bytes", "rank_bytes", "parameter_bytes",
                           "optimizer_bytes", "activation_bytes", "bandwidth", "network"})
    report.show(name, Display::bytes, 3);
  for (const char* name : {"parameters", "train_tokens_per_second", "flops", "flops_per_second", "rank_hours",
                           "active_parameters", "expert_parameters"})
    report.show(name, Display::count, 3);
  for (const char* name :
       {"step_seconds", "compute_seconds", "update_seconds", "data_seconds", "tensor_seconds", "expert_seconds"})
    report.show(name, Display::plain, 3);
  report.show_detail("plan");
  return report;
}

}  // namespace hone::cli
