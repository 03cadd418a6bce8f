#include "train/run_state.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/error.h"

namespace hone {
namespace {

using nlohmann::json;

class ParameterMap : public Visitor {
 public:
  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    if (Parameter* p = weight->parameter()) add(info, *p);
  }
  void parameter(const ParameterInfo& info, Parameter& parameter) override { add(info, parameter); }
  std::map<std::string, Parameter*> all;
  std::map<std::string, RankPart> parts;

 private:
  void add(const ParameterInfo& info, Parameter& parameter) {
    all[info.name] = &parameter;
    parts[info.name] = info.part;
  }
};

const json& member(const json& state, const char* name) {
  const auto found = state.find(name);
  if (found == state.end()) throw input_error("the checkpoint's run state has no '{}'; use another checkpoint", name);
  return *found;
}

// JSON's numbers come back as the doubles that they were. Checkpoints before had their bits as integers.
double double_of(const json& x) {
  return x.is_number_unsigned() ? std::bit_cast<double>(x.get<uint64_t>()) : x.get<double>();
}

constexpr const char* best_prefix = "best.";
constexpr const char* average_prefix = "average.";
constexpr const char* optimizer_prefix = "optimizer.";
const std::string parameter_prefix = "parameters.";  // among arrays that ranks are asked for
constexpr std::string_view default_optimizer = "adamw";

// State of one optimizer means nothing to another, even where its arrays have the same names.
void check_same_optimizer(const json& run, const Optimizer& optimizer) {
  const std::string there = run.value("optimizer", std::string(default_optimizer));
  if (there == optimizer.name()) return;
  if (std::ranges::find(optimizers(), there, &OptimizerKind::name) == optimizers().end())
    throw input_error("the checkpoint's optimizer '{}' is not one that this version has", there);
  throw usage_error(
      "this run differs from the checkpoint's in the optimizer ({} there, {} here); resume with the same, or start "
      "from its parameters in a new run",
      there, optimizer.name());
}

std::map<std::string, Tensor> with_prefix(const std::map<std::string, Tensor>& arrays, const std::string& prefix) {
  std::map<std::string, Tensor> result;
  for (const auto& [name, tensor] : arrays)
    if (name.starts_with(prefix)) result[name.substr(prefix.size())] = tensor;
  return result;
}

}  // namespace

std::map<std::string, Tensor> copy_parameters(const Transformer& model) {
  struct Copier : Reader {
    void weight(const ParameterInfo& info, const Weight& weight) override {
      if (const Parameter* p = weight.parameter()) add(info, *p);
    }
    void parameter(const ParameterInfo& info, const Parameter& parameter) override { add(info, parameter); }
    void add(const ParameterInfo& info, const Parameter& parameter) {
      copies[info.name] = info.part.here() ? parameter.value.clone() : parameter.value;
    }
    std::map<std::string, Tensor> copies;
  } copier;
  model.visit(copier);
  return copier.copies;
}

void put_parameters(Transformer& model, const std::map<std::string, Tensor>& values) {
  ParameterMap parameters;
  model.visit(parameters);
  for (const auto& [name, parameter] : parameters.all) {
    const auto found = values.find(name);
    if (found == values.end() || found->second.shape() != parameter->value.shape())
      throw input_error("the kept parameters lack '{}' in the shape of the model", name);
    if (!parameters.parts.at(name).here()) continue;
    std::memcpy(parameter->value.raw(), found->second.raw(), parameter->value.bytes());
    ++parameter->version;
  }
}

void save_run(const std::string& path, Model& model, const RunState& state, const RunSettings& settings,
              const BatchSource& source, const Optimizer& optimizer, const ParameterAverage* average) {
  ModelFile file = file_of(model);
  json run = {{"description", settings.description},
              {"step", state.step},
              {"tokens", state.tokens},
              {"smoothed", state.smoothed},
              {"lowest", state.lowest},
              {"best_step", state.best_step},
              {"best_smoothed", state.best_smoothed},
              {"stale", state.stale},
              {"validated", state.validated},
              {"last_loss", state.last.loss},
              {"last_gradient_norm", state.last.gradient_norm},
              {"last_learning_rate", state.last.learning_rate},
              {"last_router_loss", state.last.router_loss},
              {"optimizer_steps", optimizer.steps()},
              {"sampler", source.state()}};
  // Checkpoints from before there was a choice name none, and AdamW still needs no name.
  if (optimizer.name() != default_optimizer) run["optimizer"] = optimizer.name();
  if (state.valid_loss) run["valid_loss"] = *state.valid_loss;
  if (state.best_loss) run["best_loss"] = *state.best_loss;
  // What lies with other ranks comes when it is written, one array at a time.
  KeptArrays arrays;
  const auto add = [&](const std::string& prefix, const KeptArrays& kept) {
    for (const auto& [name, array] : kept) {
      file.run_arrays[prefix + name] =
          array.part.divided() ? Tensor::promised(whole_shape(array.part, array.tensor.shape()), array.tensor.dtype())
                               : array.tensor;
      arrays[prefix + name] = array;
    }
  };
  add(optimizer_prefix, optimizer.kept());
  if (average) add(average_prefix, average->state());
  ParameterMap parameters;
  model.transformer->visit(parameters);
  KeptArrays best;
  for (const auto& [name, tensor] : state.best) best[name] = KeptArray::of(tensor, parameters.parts.at(name));
  add(best_prefix, best);
  for (const auto& [name, array] : kept_arrays(*model.transformer)) arrays[parameter_prefix + name] = array;
  file.run = std::move(run);
  if (settings.stage.is_object()) {
    json stage = settings.stage;
    stage["unfinished"] = true;
    stage["results"] = {{"steps", state.step}, {"tokens", state.tokens}, {"loss", state.smoothed}};
    file.lineage.push_back(std::move(stage));
  }
  with_whole_arrays(settings.step.grid, arrays, [&](const WholeArray& whole) {
    const ArrayMaker make = [&](const std::string& parameter, const std::string& name) {
      return whole(parameter.empty() ? name : parameter_prefix + parameter);
    };
    write_model_file(path, file, true, IfTaken::refuse, {.make = make});
  });
}

json lineage_before_run(json lineage) {
  if (lineage.is_array() && !lineage.empty() && lineage.back().is_object() && lineage.back().contains("unfinished"))
    lineage.erase(lineage.size() - 1);
  return lineage;
}

int64_t step_of_run(const ModelFile& file) {
  const json step = member(file.run.value_or(json::object()), "step");
  if (!step.is_number_integer()) throw input_error("the checkpoint's run state is damaged; use another checkpoint");
  return step.get<int64_t>();
}

void check_same_run(const ModelFile& file, const RunSettings& settings) {
  if (!file.run) throw input_error("the file to resume is a model, not a checkpoint of a run; begin a new run with it");
  json before = settings.description_defaults;
  if (!before.is_object()) before = json::object();
  if (const json& said = member(*file.run, "description"); said.is_object()) before.update(said);
  for (const auto& [key, value] : settings.description.items()) {
    if (!before.contains(key) && key.ends_with("_text")) continue;  // of a version that did not look at the text itself
    if (!before.contains(key) || before.at(key) != value)
      throw usage_error(
          "this run differs from the checkpoint's in '{}' ({} there, {} here); resume with the same, or start from its "
          "parameters in a new run",
          key, before.contains(key) ? before.at(key).dump() : "nothing", value.dump());
  }
}

RunState restore_run(const ModelFile& file, const RunSettings& settings, Transformer& model, BatchSource& source,
                     Optimizer& optimizer, ParameterAverage* average) {
  check_same_run(file, settings);
  ParameterMap parameters;
  model.visit(parameters);
  const std::map<std::string, RankPart>& parts = parameters.parts;
  const json& run = *file.run;
  RunState state;
  try {
    state.step = member(run, "step").get<int64_t>();
    state.tokens = member(run, "tokens").get<int64_t>();
    state.smoothed = double_of(member(run, "smoothed"));
    state.lowest = double_of(member(run, "lowest"));
    state.best_step = member(run, "best_step").get<int64_t>();
    state.stale = member(run, "stale").get<int64_t>();
    if (run.contains("best_loss")) state.best_loss = double_of(run.at("best_loss"));
    state.best_smoothed = run.contains("best_smoothed") ? double_of(run.at("best_smoothed")) : state.smoothed;
    state.validated = run.value("validated", state.step);
    if (run.contains("valid_loss")) state.valid_loss = double_of(run.at("valid_loss"));
    const auto last = [&](const char* name) { return run.contains(name) ? double_of(run.at(name)) : 0.0; };
    state.last.loss = last("last_loss");
    state.last.gradient_norm = last("last_gradient_norm");
    state.last.learning_rate = last("last_learning_rate");
    state.last.router_loss = last("last_router_loss");
    source.restore(member(run, "sampler"));
    check_same_optimizer(run, optimizer);
    optimizer.restore(with_prefix(file.run_arrays, optimizer_prefix), member(run, "optimizer_steps").get<int64_t>());
  } catch (const json::exception&) {
    throw input_error("the checkpoint's run state is damaged; use another checkpoint");
  }
  if (average) average->restore(with_prefix(file.run_arrays, average_prefix));
  for (auto& [name, tensor] : with_prefix(file.run_arrays, best_prefix)) {
    const auto part = parts.find(name);
    state.best[name] = take_part(tensor, part == parts.end() ? RankPart() : part->second);
  }
  return state;
}

}  // namespace hone
