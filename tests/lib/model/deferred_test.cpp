// What is read of a mapped model file, and when.
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "io/verification.h"
#include "model/store.h"
#include "model/verify_groups.h"
#include "support/check.h"
#include "support/models.h"
#include "weights/packed_weight.h"

using namespace hone;
using namespace hone::test;

namespace {

constexpr const char* path = "deferred_test.h5";

// Every token of the second layer goes to these two experts.
void prefer(Transformer& model, int64_t first, int64_t second) {
  struct Preference : Visitor {
    int64_t first = 0, second = 0;
    void weight(const ParameterInfo&, std::shared_ptr<Weight>&) override {}
    void parameter(const ParameterInfo& info, Parameter& parameter) override {
      if (!info.name.ends_with("router.bias")) return;
      for (int64_t e = 0; e < parameter.value.size(); ++e)
        parameter.value.data<float>()[e] = e == first || e == second ? 100 : 0;
    }
  } preference;
  preference.first = first;
  preference.second = second;
  model.visit(preference);
}

enum class Form { dense, packed, bitmask };

Model mixture(Form form) {
  Config c = small_config();
  c.layers[1].experts = 6;
  c.layers[1].top_k = 2;
  c.layers[1].ffn = 512;
  Model model;
  model.transformer = std::make_unique<Transformer>(c);
  initialize(*model.transformer, 3);
  prefer(*model.transformer, 0, 1);
  struct Packer : Visitor {
    Form form = Form::packed;
    void weight(const ParameterInfo&, std::shared_ptr<Weight>& weight) override {
      Bitmask mask;
      if (form == Form::bitmask) {
        mask = Bitmask::zeros(weight->rows(), weight->cols());
        for (uint8_t& byte : mask.bits().span<uint8_t>()) byte = 0x5a;
      }
      weight = pack_bf16(weight->to_dense(), mask);
    }
    void parameter(const ParameterInfo&, Parameter&) override {}
  } packer;
  packer.form = form;
  if (form != Form::dense) model.transformer->visit(packer);
  return model;
}

Tensor hidden(const Transformer& model, std::span<const int32_t> ids, DType type, State* state = nullptr) {
  const Batch batch({{0, state ? state->length(0) : 0, static_cast<int64_t>(ids.size())}});
  return model.hidden(ids, model.call(batch, type), state).value().to(DType::f32);
}

// A prompt and some steps of generation, in both types.
std::vector<Tensor> generated(Transformer& model) {
  std::vector<Tensor> all;
  const std::vector<int32_t> ids = some_ids(40);
  for (const DType type : {DType::f32, DType::bf16}) {
    State state = model.make_state({1, 40, type});
    all.push_back(hidden(model, std::span(ids).first(30), type, &state));
    for (size_t t = 30; t < 40; ++t) all.push_back(hidden(model, std::span(ids).subspan(t, 1), type, &state));
  }
  return all;
}

bool equal(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  return std::ranges::equal(
      a, b, [](const Tensor& x, const Tensor& y) { return std::ranges::equal(x.span<float>(), y.span<float>()); });
}

// While this lives, reading the pages that lie wholly within an array ends the process.
class OutOfBounds {
 public:
  explicit OutOfBounds(const Tensor& array) {
    const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto from = reinterpret_cast<uintptr_t>(array.raw()), to = from + array.bytes();
    begin_ = (from + page - 1) / page * page;
    const uintptr_t end = to / page * page;
    bytes_ = end > begin_ ? end - begin_ : 0;
    if (bytes_ > 0 && mprotect(start(), bytes_, PROT_NONE) != 0) bytes_ = 0;
  }
  OutOfBounds(OutOfBounds&& other) noexcept : begin_(other.begin_), bytes_(std::exchange(other.bytes_, 0)) {}
  ~OutOfBounds() {
    if (bytes_ > 0) mprotect(start(), bytes_, PROT_READ);
  }
  size_t bytes() const { return bytes_; }

 private:
  void* start() const { return reinterpret_cast<void*>(begin_); }

  uintptr_t begin_;
  size_t bytes_;
};

// The weights that are used one after the other, by name.
std::map<std::string, std::shared_ptr<Weight>> weights_of(Model& model) {
  struct Collector : Visitor {
    std::map<std::string, std::shared_ptr<Weight>> all;
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override { all[info.name] = weight; }
    void parameter(const ParameterInfo&, Parameter&) override {}
  } collector;
  model.transformer->visit(collector);
  return collector.all;
}

// Changes the file at `path` where the array of this parameter begins.
void put_first_number(const std::string& name, float value) {
  std::string bytes;
  {
    std::ifstream in(path, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  const ModelFile whole = read_model_file(path);
  const Tensor& values = whole.parameters.at(name).arrays.at("values");
  const size_t at = bytes.find(std::string(reinterpret_cast<const char*>(values.raw()), values.bytes()));
  REQUIRE(at != std::string::npos);
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(at));
  file.write(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string complaint_of(const Weight& weight) {
  try {
    weight.to_dense();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("experts that are never routed to are never read") {
  for (const auto& [form, groups] : {std::pair(Form::dense, false), std::pair(Form::packed, false),
                                     std::pair(Form::bitmask, false), std::pair(Form::packed, true)}) {
    CAPTURE(static_cast<int>(form));
    Model original = mixture(form);
    save_model(path, original, true);
    const ModelSize size = size_of(*original.transformer);
    const std::vector<Tensor> expected = generated(*load_model(path).transformer);
    ModelFile file = read_model_file(path, {.defer = true});
    std::vector<OutOfBounds> walls;
    size_t of_arrays = 0, walled = 0;
    for (const auto& [name, encoded] : file.parameters) {
      const auto at = name.find(".experts.");
      if (at == std::string::npos || name[at + 9] < '2') continue;
      for (const auto& [array, tensor] : encoded.arrays) {
        of_arrays += tensor.bytes();
        walled += walls.emplace_back(tensor).bytes();
      }
    }
    REQUIRE(walled > of_arrays * 2 / 3);
    Model model = model_of(std::move(file), path);
    if (groups) verify_in_groups(model);
    CHECK(equal(generated(*model.transformer), expected));
    const ModelSize later = size_of(*model.transformer);
    CHECK(later.nonzero_parameters == size.nonzero_parameters);
    CHECK(later.prunable_zeros == size.prunable_zeros);
    CHECK(later.active_parameters == size.active_parameters);
    std::remove(path);
  }
}

TEST_CASE("damage in an expert is found when a token is first sent to it") {
  Model original = mixture(Form::packed);
  save_model(path, original, true);
  std::ifstream in(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(in), {}};
  const std::string name = "blocks.1.feed_forward.experts.5.down.weight";
  {
    const ModelFile whole = read_model_file(path);
    const Tensor& values = whole.parameters.at(name).arrays.at("values");
    const size_t at = bytes.find(std::string(reinterpret_cast<const char*>(values.raw()), values.bytes()));
    REQUIRE(at != std::string::npos);
    bytes[at + values.bytes() / 2] ^= 1;
  }
  std::ofstream(path, std::ios::binary) << bytes;
  Model model = load_model(path, {.defer = true});
  SUBCASE("each weight alone") {}
  SUBCASE("in groups") {
    verify_in_groups(model);
  }
  CHECK(generated(*model.transformer).size() == 22);
  prefer(*model.transformer, 1, 5);
  for (int i = 0; i < 2; ++i) {
    std::string message;
    try {
      generated(*model.transformer);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::input);
      message = error.what();
    }
    CHECK(message.find(path) != std::string::npos);
    CHECK(message.find("'" + name + "' dataset 'values' does not match its checksum") != std::string::npos);
  }
  CHECK_THROWS_AS(load_model(path), Error);
  CHECK_THROWS_AS(save_model("deferred_copy.h5", model, true), Error);
  CHECK_FALSE(std::ifstream("deferred_copy.h5").good());
  std::remove(path);
}

TEST_CASE("in groups, a layer is compared at the first use before it, and who is damaged is named") {
  const std::string embedding = "embedding.weight", damaged = "blocks.0.attention.output.weight";
  const Model original = mixture(Form::dense);
  for (const bool groups : {false, true}) {
    CAPTURE(groups);
    save_model(path, original, true);
    Model model = load_model(path, {.defer = true});
    if (groups) verify_in_groups(model);
    auto weights = weights_of(model);
    weights.at(embedding)->to_dense();
    put_first_number(damaged, 5);
    // Compared already, with what the file had then.
    CHECK((complaint_of(*weights.at(damaged)) == "") == groups);

    Model later = load_model(path, {.defer = true});
    if (groups) verify_in_groups(later);
    weights = weights_of(later);
    CHECK(complaint_of(*weights.at(embedding)) == "");
    for (int i = 0; i < 2; ++i)
      CHECK(complaint_of(*weights.at(damaged)).find("'" + damaged + "' dataset 'values' does not match") !=
            std::string::npos);
  }
  std::remove(path);
}

TEST_CASE("numbers that are not finite are counted while arrays are compared") {
  const std::string name = "blocks.1.attention.output.weight";
  Model original = mixture(Form::dense);
  weights_of(original).at(name)->parameter()->value.data<float>()[3] = std::nanf("");
  save_model(path, original, true);
  const ModelFile file = read_model_file(path, {.defer = true});
  for (const auto& [parameter, encoded] : file.parameters) {
    const auto* comparison = encoded.verify.target<Verification>();
    REQUIRE(comparison);
    CHECK(comparison->nonfinite() == (parameter == name ? 1 : 0));
  }
  for (const bool groups : {false, true}) {
    Model model = load_model(path, {.defer = true});
    if (groups) verify_in_groups(model);
    const auto weights = weights_of(model);
    CHECK(complaint_of(*weights.at("blocks.0.attention.output.weight")) == "");
    CHECK(complaint_of(*weights.at(name)).find("'" + name + "' has 1 number that is NaN or infinite") !=
          std::string::npos);
  }
  std::remove(path);
}
