#include "train/run_state.h"

#include <bit>
#include <cstring>

#include "base/error.h"

namespace hone {
namespace {

using nlohmann::json;

class ParameterMap : public Visitor {
 public:
  void weight(const std::string& name, std::shared_ptr<Weight>& weight, Linear*) override {
    if (Parameter* p = weight->parameter()) all[name] = p;
  }
  void parameter(const std::string& name, Parameter& parameter) override { all[name] = &parameter; }
  std::map<std::string, Parameter*> all;
};

const json& member(const json& state, const char* name) {
  const auto found = state.find(name);
  if (found == state.end()) throw input_error("the checkpoint's run state has no '{}'; use another checkpoint", name);
  return *found;
}

// Doubles travel as their bits: a resumed run must not differ in the last one.
json bits(double x) {
  return std::bit_cast<uint64_t>(x);
}
double from_bits(const json& x) {
  return std::bit_cast<double>(x.get<uint64_t>());
}

constexpr const char* best_prefix = "best.";
constexpr const char* optimizer_prefix = "optimizer.";

std::map<std::string, Tensor> with_prefix(const std::map<std::string, Tensor>& arrays, const std::string& prefix) {
  std::map<std::string, Tensor> result;
  for (const auto& [name, tensor] : arrays)
    if (name.starts_with(prefix)) result[name.substr(prefix.size())] = tensor;
  return result;
}

}  // namespace

std::map<std::string, Tensor> copy_parameters(Transformer& model) {
  ParameterMap parameters;
  model.visit(parameters);
  std::map<std::string, Tensor> copies;
  for (const auto& [name, parameter] : parameters.all) copies[name] = parameter->value.clone();
  return copies;
}

void put_parameters(Transformer& model, const std::map<std::string, Tensor>& values) {
  ParameterMap parameters;
  model.visit(parameters);
  for (const auto& [name, parameter] : parameters.all) {
    const auto found = values.find(name);
    if (found == values.end() || found->second.shape() != parameter->value.shape())
      throw input_error("the kept parameters lack '{}' in the shape of the model", name);
    std::memcpy(parameter->value.raw(), found->second.raw(), parameter->value.bytes());
    ++parameter->version;
  }
}

void save_run(const std::string& path, Model& model, const RunState& state, const json& description,
              const BatchSampler& sampler, const Optimizer& optimizer) {
  ModelFile file = file_of(model);
  json run = {{"description", description},   {"step", state.step},
              {"tokens", state.tokens},       {"smoothed", bits(state.smoothed)},
              {"lowest", bits(state.lowest)}, {"best_step", state.best_step},
              {"stale", state.stale},         {"optimizer_steps", optimizer.steps()},
              {"sampler", sampler.state()}};
  if (state.best_loss) run["best_loss"] = bits(*state.best_loss);
  for (const auto& [name, tensor] : optimizer.state()) file.run_arrays[optimizer_prefix + name] = tensor;
  for (const auto& [name, tensor] : state.best) file.run_arrays[best_prefix + name] = tensor;
  file.run = std::move(run);
  write_model_file(path, file, true);
}

RunState restore_run(const ModelFile& file, const json& description, BatchSampler& sampler, Optimizer& optimizer) {
  if (!file.run)
    throw input_error("the file to resume is a model, not a checkpoint of a run; continue from it with --init");
  const json& run = *file.run;
  const json& before = member(run, "description");
  for (const auto& [key, value] : description.items())
    if (!before.contains(key) || before.at(key) != value)
      throw usage_error(
          "this run differs from the checkpoint's in '{}' ({} there, {} here); resume with the same, or start from its "
          "parameters with --init",
          key, before.contains(key) ? before.at(key).dump() : "nothing", value.dump());
  RunState state;
  try {
    state.step = member(run, "step").get<int64_t>();
    state.tokens = member(run, "tokens").get<int64_t>();
    state.smoothed = from_bits(member(run, "smoothed"));
    state.lowest = from_bits(member(run, "lowest"));
    state.best_step = member(run, "best_step").get<int64_t>();
    state.stale = member(run, "stale").get<int64_t>();
    if (run.contains("best_loss")) state.best_loss = from_bits(run.at("best_loss"));
    sampler.restore(member(run, "sampler"));
    optimizer.restore(with_prefix(file.run_arrays, optimizer_prefix), member(run, "optimizer_steps").get<int64_t>());
  } catch (const json::exception&) {
    throw input_error("the checkpoint's run state is damaged; use another checkpoint");
  }
  for (auto& [name, tensor] : with_prefix(file.run_arrays, best_prefix)) state.best[name] = tensor.clone();
  return state;
}

}  // namespace hone
