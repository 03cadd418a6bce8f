#include "model/store.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/stop.h"
#include "comm/launch.h"
#include "io/verification.h"
#include "model/whole_arrays.h"
#include "tensor/pages.h"

namespace hone {
namespace {

std::string where_is(const std::string& path, const std::string& name) {
  return fmt::format("'{}': parameter '{}'", path, name);
}

void refuse_nonfinite(int64_t n, const std::string& where) {
  if (n != 0)
    throw input_error("{} has {} {} NaN or infinite: give a model whose training did not diverge", where, n,
                      n == 1 ? "number that is" : "numbers that are");
}

// What differs from rank to rank is told whole, its values promised where they are not here. On every rank that has
// some of it.
class Saver : public Reader {
 public:
  Saver(std::map<std::string, Encoded>& into, const std::shared_ptr<Communicator>& ranks)
      : into_(into), ranks_(ranks) {}
  void weight(const ParameterInfo& info, const Weight& weight) override {
    if (!ranks_) check_stop();
    Encoded& encoded = into_[info.name] = weight.encode();
    encoded.attributes[nonzeros_attribute] = weight.nonzeros();
    encoded.attributes[pruned_attribute] = weight.pruned();
    if (info.part.holder >= 0) return ask_holder(encoded, weight, info.part);
    if (!info.part.divided()) return;
    tell_whole(encoded, info.part);
    if (weight.mask()) encoded.arrays.at("mask") = whole_mask(weight.mask(), info.part).bits();
    for (const char* name : {nonzeros_attribute, pruned_attribute}) {
      int64_t sum = 0;
      for (const std::string& number : ranks_->gather(std::to_string(encoded.attributes[name])))
        sum += std::stoll(number);
      encoded.attributes[name] = sum;
    }
  }
  void parameter(const ParameterInfo& info, const Parameter& parameter) override {
    Encoded& encoded = into_[info.name] = {"dense", "f32", parameter.value.shape(), {}, {{"values", parameter.value}}};
    if (info.part.divided()) tell_whole(encoded, info.part);
  }

 private:
  static void tell_whole(Encoded& encoded, const RankPart& part) {
    if (encoded.form != "dense" && encoded.form != "masked")
      throw internal_error("parts of a {} weight are not put together", encoded.form);
    encoded.shape = whole_shape(part, encoded.shape);
    encoded.arrays.at("values") = Tensor::promised(encoded.shape);
  }

  // What only one rank knows of a weight.
  void ask_holder(Encoded& encoded, const Weight& weight, const RankPart& part) const {
    const auto said = [&](const std::string& mine) {
      return ranks_->gather(part.here() ? mine : "").at(static_cast<size_t>(part.holder));
    };
    for (const char* name : {nonzeros_attribute, pruned_attribute})
      encoded.attributes[name] = std::stoll(said(std::to_string(encoded.attributes[name])));
    const Bitmask mask = weight.mask();
    const std::string bits =
        said(mask ? std::string(reinterpret_cast<const char*>(mask.data()), mask.bits().bytes()) : "");
    if (part.here() || bits.empty()) return;
    const Bitmask there = Bitmask::zeros(weight.rows(), weight.cols());
    std::ranges::copy(bits, reinterpret_cast<char*>(there.data()));
    encoded.form = "masked";
    encoded.arrays["mask"] = there.bits();
  }

  Bitmask whole_mask(const Bitmask& mask, const RankPart& part) const {
    const Shape shape = whole_shape(part, {mask.rows(), mask.cols()});
    const Bitmask whole = Bitmask::zeros(shape[0], shape[1]);
    const auto all = ranks_->gather({reinterpret_cast<const char*>(mask.data()), mask.bits().bytes()});
    for (size_t rank = 0; rank < all.size(); ++rank) {
      const Bitmask other = Bitmask::zeros(mask.rows(), mask.cols());
      std::copy(all[rank].begin(), all[rank].end(), reinterpret_cast<char*>(other.data()));
      put_part(other, part.of_rank(static_cast<int>(rank)), whole);
    }
    return whole;
  }

  std::map<std::string, Encoded>& into_;
  std::shared_ptr<Communicator> ranks_;
};

class Loader : public Visitor {
 public:
  // Of several ranks (`parts`) each on this machine compares a share (`checked`) of the arrays with their checksums, of
  // those that it has alone each all. What is not divided may wait for that until it is used where `finite`.
  Loader(std::map<std::string, Encoded>& from, std::string path, bool finite, bool parts, const Share& checked)
      : from_(from), path_(std::move(path)), finite_(finite), parts_(parts), checked_(checked) {}

  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    const std::string& name = info.name;
    Encoded e = find(name, whole_shape(info.part, {weight->rows(), weight->cols()}));
    if (!info.part.here()) return;  // and stays promised
    if (parts_ && (info.part.divided() || !finite_)) {
      if (e.verify && (info.part.holder >= 0 || compared_++ % checked_.count == checked_.index)) e.verify();
      e.verify = nullptr;
    }
    if (info.part.divided()) {
      weight = part_of(decode_weight(e, where(name)), info.part, where(name));
      for (const auto& [array, tensor] : e.arrays) let_go(tensor);
      if (finite_) refuse_nonfinite(count_nonfinite(weight->encode()), where(name));
      return;
    }
    if (finite_ && e.verify)
      e.verify = [verify = e.verify, arrays = e, where = where(name)] {
        if (const Verification* both = verify.target<Verification>()) return refuse_nonfinite(both->nonfinite(), where);
        verify();
        refuse_nonfinite(count_nonfinite(arrays), where);
      };
    weight = decode_weight(e, where(name));
  }

  void parameter(const ParameterInfo& info, Parameter& parameter) override {
    const std::string& name = info.name;
    const Encoded& e = find(name, whole_shape(info.part, parameter.value.shape()));
    if (!info.part.here()) return;
    const auto values = e.arrays.find("values");
    if (e.form != "dense" || values == e.arrays.end() || values->second.shape() != e.shape ||
        values->second.dtype() != DType::f32)
      throw input_error("{}: a plain f32 array is needed here", where(name));
    if (e.verify) e.verify();
    if (finite_) refuse_nonfinite(count_nonfinite(e), where(name));
    parameter.value = take_part(values->second, info.part);  // small, and training writes to it
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
  bool finite_, parts_;
  Share checked_;
  int64_t compared_ = 0;  // weights so far, by whomever
  std::set<std::string> seen_;
};

class FiniteChecker : public Reader {
 public:
  explicit FiniteChecker(const std::string& path) : path_(path) {}
  void weight(const ParameterInfo& info, const Weight& weight) override {
    if (info.part.here()) refuse_nonfinite(count_nonfinite(weight.encode()), where_is(path_, info.name));
  }
  void parameter(const ParameterInfo& info, const Parameter& parameter) override {
    if (!info.part.here()) return;
    const Encoded values{"dense", "f32", parameter.value.shape(), {}, {{"values", parameter.value}}};
    refuse_nonfinite(count_nonfinite(values), where_is(path_, info.name));
  }

 private:
  const std::string& path_;
};

int64_t nonzeros_of(const Tensor& values) {
  if (values.promised()) return values.size();  // what it will be once it is initialized
  return std::ranges::count_if(values.span<float>(), [](float x) { return x != 0; });
}

class Counter : public Reader {
 public:
  // `ranks`: there are others that count with this one, so that no signal to one ends it.
  Counter(const Config& config, bool ranks) : config_(config), tied_(config.tied), ranks_(ranks) {}

  void weight(const ParameterInfo& info, const Weight& weight) override {
    if (info.part.differs()) return of_part(info, weight);
    if (!ranks_) check_stop();
    const int64_t elements = weight.rows() * weight.cols(), nonzeros = weight.nonzeros();
    size.parameters += elements;
    size.nonzero_parameters += nonzeros;
    if (info.kind <= 0) add_active(info, info.role != Role::embedding || tied_ ? elements : weight.cols());
    size.weight_bytes += weight.stored_bytes();
    if (!is_linear(info.role)) return;
    size.prunable += elements;
    size.pruned += weight.pruned();
    size.prunable_zeros += elements - nonzeros;
  }

  void parameter(const ParameterInfo& info, const Parameter& parameter) override {
    if (info.part.differs()) {
      const int64_t all = elements(whole_shape(info.part, parameter.value.shape()));
      size.parameters += all;
      add_active(info, all);
      if (!info.part.here()) return;
      divided.nonzero_parameters += nonzeros_of(parameter.value);
      divided.weight_bytes += static_cast<int64_t>(parameter.value.bytes());
      return;
    }
    size.parameters += parameter.value.size();
    if (info.kind <= 0) add_active(info, info.role == Role::position ? parameter.value.dim(1) : parameter.value.size());
    size.nonzero_parameters += nonzeros_of(parameter.value);
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
  ModelSize divided;  // of what is here of that which differs from rank to rank: what they add up

 private:
  void of_part(const ParameterInfo& info, const Weight& weight) {
    const int64_t all = elements(whole_shape(info.part, {weight.rows(), weight.cols()}));
    size.parameters += all;
    add_active(info, info.role != Role::embedding || tied_ ? all : weight.cols());
    if (is_linear(info.role)) size.prunable += all;
    if (!info.part.here()) return;
    const int64_t nonzeros = weight.nonzeros();
    divided.nonzero_parameters += nonzeros;
    divided.weight_bytes += weight.stored_bytes();
    if (!is_linear(info.role)) return;
    divided.pruned += weight.pruned();
    divided.prunable_zeros += weight.rows() * weight.cols() - nonzeros;
  }

  // Of a layer with a router of depth the part that its tokens go through; the router itself sees all of them, with its
  // norm and predictor, and so does the norm of an exit behind it.
  void add_active(const ParameterInfo& info, int64_t elements) {
    const bool of_all = info.role == Role::depth_router || info.of == Role::depth_router ||
                        info.norm == NormOf::depth_router || info.norm == NormOf::exit;
    if (info.layer >= 0 && !of_all)
      elements = std::llround(static_cast<double>(elements) *
                              passing_fraction(config_.layers[static_cast<size_t>(info.layer)]));
    (experts_ > 0 ? of_experts_ : size.active_parameters) += elements;
  }

  const Config& config_;
  bool tied_, ranks_;
  int64_t experts_ = 0, active_ = 0, of_experts_ = 0;  // of the mixture that is being visited
};

}  // namespace

namespace {

// `finite`: a number that is not finite is an error, of a deferred weight at its first use.
Model assemble(ModelFile file, const std::string& path, bool finite, const ModelRanks& ranks = {},
               const Share& checked = {}) {
  Model model;
  model.path = path;
  if (!file.tokenizer.is_object() && !file.tokenizer.is_null())
    throw input_error("'{}': dataset 'tokenizer' is not a JSON object; use another copy", path);
  model.transformer = std::make_unique<Transformer>(config_from_json(file.config, fmt::format("'{}'", path)), ranks);
  model.tokenizer = std::move(file.tokenizer);
  model.lineage = std::move(file.lineage);
  model.origin = std::move(file.origin);
  model.notes = std::move(file.notes);
  Loader loader(file.parameters, path, finite, model.transformer->ranks() != nullptr, checked);
  model.transformer->visit(loader);
  loader.refuse_leftovers();
  return model;
}

}  // namespace

Model model_of(ModelFile file, const std::string& path) {
  return assemble(std::move(file), path, false);
}

void set_rounding(Model& model, const kernels::ActivationRounding& rounding) {
  struct Setter : Visitor {
    explicit Setter(const kernels::ActivationRounding& of) : rounding(of) {}
    void weight(const ParameterInfo&, std::shared_ptr<Weight>& weight) override { weight->set_rounding(rounding); }
    void parameter(const ParameterInfo&, Parameter&) override {}
    const kernels::ActivationRounding& rounding;
  } setter(rounding);
  model.transformer->visit(setter);
  model.rounding = rounding;
}

void require_finite(const Model& model) {
  FiniteChecker checker(model.path);
  std::as_const(*model.transformer).visit(checker);
}

void read_through(const Model& model) {
  struct Toucher : Reader {
    void weight(const ParameterInfo&, const Weight& weight) override {
      check_stop();
      weight.encode();
      weight.let_go();
    }
    void parameter(const ParameterInfo&, const Parameter&) override {}  // read when it was loaded
  } toucher;
  std::as_const(*model.transformer).visit(toucher);
}

namespace {

// Those of the ranks that are on this machine, where each has its own copy of a file.
Share of_machine(Communicator& ranks) {
  Share share{0, 0};
  const std::string machine = machine_name();
  int rank = 0;
  for (const std::string& other : ranks.gather(machine)) {
    if (other == machine && rank < ranks.rank()) ++share.index;
    share.count += other == machine;
    ++rank;
  }
  return share;
}

Model load_part(const std::string& path, ReadOptions options, ModelFile* rest, const ModelRanks& ranks) {
  const Share checked = of_machine(*ranks.group);
  const bool finite = options.defer;
  options.defer = true;  // of what is divided nobody reads all
  Model model;
  const std::vector<std::string> digests = gather_agreed(*ranks.group, [&] {
    ModelFile file = read_model_file(path, options);
    if (rest) {
      rest->run = file.run;
      rest->run_arrays = file.run_arrays;
    }
    std::string digest = file.digest;
    model = assemble(std::move(file), path, finite, ranks, checked);
    return digest;
  });
  for (size_t rank = 1; rank < digests.size(); ++rank)
    if (digests[rank] != digests.front())
      throw input_error("'{}' is another model for rank {} than for rank 0; give all ranks the same file", path, rank);
  return model;
}

}  // namespace

Model load_model(const std::string& path, const ReadOptions& options, ModelFile* rest, const ModelRanks& ranks) {
  if (ranks) return load_part(path, options, rest, ranks);
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
  Saver saver(file.parameters, model.transformer->ranks());
  std::as_const(*model.transformer).visit(saver);
  return file;
}

KeptArrays kept_arrays(const Transformer& model) {
  struct Collector : Reader {
    KeptArrays all;
    void weight(const ParameterInfo& info, const Weight& weight) override {
      if (info.part.differs()) all[info.name] = KeptArray::of(weight.encode().arrays.at("values"), info.part);
    }
    void parameter(const ParameterInfo& info, const Parameter& parameter) override {
      if (info.part.differs()) all[info.name] = KeptArray::of(parameter.value, info.part);
    }
  } collector;
  model.visit(collector);
  return collector.all;
}

namespace {

// The first of the ranks that have its parts writes, and all return what it wrote.
WrittenFile save_parts(const std::string& path, const Model& model, bool force) {
  const ModelFile file = file_of(model);
  const RankGrid grid = grid_of(*model.transformer);
  const std::vector<std::string> said = gather_agreed(*grid.all, [&] {
    nlohmann::json written;
    with_whole_arrays(grid, kept_arrays(*model.transformer), [&](const WholeArray& whole) {
      const ArrayMaker make = [&](const std::string& parameter, const std::string&) { return whole(parameter); };
      const WrittenFile made = write_model_file(path, file, force, IfTaken::beside, {.make = make});
      written = {made.path, made.bytes, made.sha256};
    });
    return written.dump();
  });
  const nlohmann::json written = parse_json(said.front());
  return {written.at(0), written.at(1), written.at(2)};
}

}  // namespace

WrittenFile save_model(const std::string& path, const Model& model, bool force) {
  if (model.transformer->ranks()) return save_parts(path, model, force);
  return write_model_file(path, file_of(model), force, IfTaken::beside);
}

ModelSize size_of(const Transformer& model) {
  Counter counter(model.config(), model.ranks() != nullptr);
  model.visit(counter);
  if (!model.ranks()) return counter.size;
  const ModelSize& mine = counter.divided;
  const nlohmann::json numbers = {mine.nonzero_parameters, mine.pruned, mine.prunable_zeros, mine.weight_bytes};
  for (const std::string& text : model.ranks()->gather(numbers.dump())) {
    const nlohmann::json part = parse_json(text);
    counter.size.nonzero_parameters += part.at(0).get<int64_t>();
    counter.size.pruned += part.at(1).get<int64_t>();
    counter.size.prunable_zeros += part.at(2).get<int64_t>();
    counter.size.weight_bytes += part.at(3).get<int64_t>();
  }
  return counter.size;
}

}  // namespace hone
