#include "model/store.h"

#include <fmt/format.h>

#include <set>
#include <utility>

#include "base/error.h"
#include "base/stop.h"

namespace hone {
namespace {

std::string where_is(const std::string& path, const std::string& name) {
  return fmt::format("'{}': parameter '{}'", path, name);
}

void refuse_nonfinite(const Encoded& encoded, const std::string& where) {
  if (const int64_t n = count_nonfinite(encoded))
    throw input_error("{} has {} {} NaN or infinite: give a model whose training did not diverge", where, n,
                      n == 1 ? "number that is" : "numbers that are");
}

class Saver : public Reader {
 public:
  explicit Saver(std::map<std::string, Encoded>& into) : into_(into) {}
  void weight(const ParameterInfo& info, const Weight& weight) override {
    check_stop();
    Encoded& encoded = into_[info.name] = weight.encode();
    encoded.attributes[nonzeros_attribute] = weight.nonzeros();
    encoded.attributes[pruned_attribute] = weight.pruned();
  }
  void parameter(const ParameterInfo& info, const Parameter& parameter) override {
    into_[info.name] = {"dense", "f32", parameter.value.shape(), {}, {{"values", parameter.value}}};
  }

 private:
  std::map<std::string, Encoded>& into_;
};

class Loader : public Visitor {
 public:
  Loader(std::map<std::string, Encoded>& from, std::string path, bool finite)
      : from_(from), path_(std::move(path)), finite_(finite) {}

  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    const std::string& name = info.name;
    Encoded e = find(name, {weight->rows(), weight->cols()});
    if (finite_ && e.verify)
      e.verify = [verify = e.verify, arrays = e, where = where(name)] {
        verify();
        refuse_nonfinite(arrays, where);
      };
    weight = decode_weight(e, where(name));
  }

  void parameter(const ParameterInfo& info, Parameter& parameter) override {
    const std::string& name = info.name;
    const Encoded& e = find(name, parameter.value.shape());
    const auto values = e.arrays.find("values");
    if (e.form != "dense" || values == e.arrays.end() || values->second.shape() != e.shape ||
        values->second.dtype() != DType::f32)
      throw input_error("{}: a plain f32 array is needed here", where(name));
    if (e.verify) e.verify();
    if (finite_) refuse_nonfinite(e, where(name));
    parameter.value = values->second.clone();  // small, and training writes to it
    ++parameter.version;
  }

  void refuse_leftovers() const {
    for (const auto& [name, encoded] : from_)
      if (!seen_.contains(name))
        throw input_error("{} does not belong to the model that the configuration describes", where(name));
  }

 private:
  std::string where(const std::string& name) const { return where_is(path_, name); }

  const Encoded& find(const std::string& name, const Shape& shape) {
    const auto found = from_.find(name);
    if (found == from_.end()) throw input_error("{} is missing", where(name));
    if (found->second.shape != shape)
      throw input_error("{} has shape {} where the configuration needs {}", where(name), to_string(found->second.shape),
                        to_string(shape));
    seen_.insert(name);
    return found->second;
  }

  std::map<std::string, Encoded>& from_;
  std::string path_;
  bool finite_;
  std::set<std::string> seen_;
};

class FiniteChecker : public Reader {
 public:
  explicit FiniteChecker(const std::string& path) : path_(path) {}
  void weight(const ParameterInfo& info, const Weight& weight) override {
    refuse_nonfinite(weight.encode(), where_is(path_, info.name));
  }
  void parameter(const ParameterInfo& info, const Parameter& parameter) override {
    refuse_nonfinite({"dense", "f32", parameter.value.shape(), {}, {{"values", parameter.value}}},
                     where_is(path_, info.name));
  }

 private:
  const std::string& path_;
};

class Counter : public Reader {
 public:
  explicit Counter(bool tied) : tied_(tied) {}

  void weight(const ParameterInfo& info, const Weight& weight) override {
    check_stop();
    const int64_t elements = weight.rows() * weight.cols(), nonzeros = weight.nonzeros();
    size.parameters += elements;
    size.nonzero_parameters += nonzeros;
    if (info.kind <= 0) add_active(info.role != Role::embedding || tied_ ? elements : weight.cols());
    size.weight_bytes += weight.stored_bytes();
    if (!is_linear(info.role)) return;
    size.prunable += elements;
    size.pruned += weight.pruned();
    size.prunable_zeros += elements - nonzeros;
  }

  void parameter(const ParameterInfo& info, const Parameter& parameter) override {
    size.parameters += parameter.value.size();
    if (info.kind <= 0) add_active(info.role == Role::position ? parameter.value.dim(1) : parameter.value.size());
    if (parameter.value.promised())
      size.nonzero_parameters += parameter.value.size();  // what it will be once it is initialized
    else
      for (const float x : parameter.value.span<float>()) size.nonzero_parameters += x != 0;
    size.weight_bytes += static_cast<int64_t>(parameter.value.bytes());
  }

  void begin_experts(int64_t experts, int64_t active) override {
    experts_ = experts;
    active_ = active;
    of_experts_ = 0;
  }

  void end_experts() override {
    size.active_parameters += of_experts_ * active_ / experts_;
    experts_ = 0;
  }

  ModelSize size;

 private:
  void add_active(int64_t elements) { (experts_ > 0 ? of_experts_ : size.active_parameters) += elements; }

  bool tied_;
  int64_t experts_ = 0, active_ = 0, of_experts_ = 0;  // of the mixture that is being visited
};

}  // namespace

namespace {

// `finite`: a number that is not finite is an error, of a deferred weight at its first use.
Model assemble(ModelFile file, const std::string& path, bool finite) {
  Model model;
  model.path = path;
  if (!file.tokenizer.is_object() && !file.tokenizer.is_null())
    throw input_error("'{}': dataset 'tokenizer' is not a JSON object; use another copy", path);
  model.transformer = std::make_unique<Transformer>(config_from_json(file.config, fmt::format("'{}'", path)));
  model.tokenizer = std::move(file.tokenizer);
  model.lineage = std::move(file.lineage);
  model.origin = std::move(file.origin);
  model.notes = std::move(file.notes);
  Loader loader(file.parameters, path, finite);
  model.transformer->visit(loader);
  loader.refuse_leftovers();
  return model;
}

}  // namespace

Model model_of(ModelFile file, const std::string& path) {
  return assemble(std::move(file), path, false);
}

void require_finite(const Model& model) {
  FiniteChecker checker(model.path);
  std::as_const(*model.transformer).visit(checker);
}

Model load_model(const std::string& path, const ReadOptions& options, ModelFile* rest) {
  ModelFile file = read_model_file(path, options);
  if (rest) {
    rest->run = file.run;
    rest->run_arrays = file.run_arrays;
  }
  return assemble(std::move(file), path, options.defer);
}

ModelFile file_of(const Model& model) {
  ModelFile file;
  file.config = to_json(model.transformer->config());
  file.version = format_version_of(model.transformer->config());
  file.tokenizer = model.tokenizer;
  file.lineage = model.lineage;
  file.origin = model.origin;
  file.notes = model.notes;
  Saver saver(file.parameters);
  std::as_const(*model.transformer).visit(saver);
  return file;
}

WrittenFile save_model(const std::string& path, const Model& model, bool force) {
  return write_model_file(path, file_of(model), force, IfTaken::beside);
}

ModelSize size_of(const Transformer& model) {
  Counter counter(model.config().tied);
  model.visit(counter);
  return counter.size;
}

}  // namespace hone
