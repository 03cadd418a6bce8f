// Models in one process that round activations in different ways.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>
#include <vector>

#include "model/store.h"
#include "support/models.h"
#include "weights/packed_weight.h"

using namespace hone;
using namespace hone::test;

namespace {

constexpr const char* rounded_path = "rounding_test.h5";

std::shared_ptr<Weight> integers_of(const Weight& weight) {
  QuantizedMatrix q{weight.rows(), weight.cols(), 0, kernels::element_named("int8"), {}, {}, {}};
  q.integers = Tensor::empty({q.rows, q.cols}, DType::i8);
  q.scales = Tensor::empty({q.rows, 1});
  std::ranges::fill(q.scales.span<float>(), 1.0f / 64);
  const Tensor dense = weight.to_dense();
  for (int64_t i = 0; i < dense.size(); ++i)
    q.integers.data<int8_t>()[i] =
        static_cast<int8_t>(std::clamp(std::nearbyint(64 * dense.data<float>()[i]), -127.0f, 127.0f));
  return pack_integers(q);
}

constexpr const char* of_8_bits = "blocks.0.attention.qkv.weight";

// With `stored` one of the matrices asks for activations of 8 bits.
void save_model_of_integers(bool stored = false) {
  Model model;
  model.transformer = std::make_unique<Transformer>(small_config());
  initialize(*model.transformer, 3);
  struct Packer : Visitor {
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      if (is_linear(info.role)) weight = integers_of(*weight);
      if (stored && info.name == of_8_bits) weight = with_activation_bits(*weight, 8);
    }
    void parameter(const ParameterInfo&, Parameter&) override {}
    bool stored = false;
  } packer;
  packer.stored = stored;
  model.transformer->visit(packer);
  save_model(rounded_path, model, true);
}

std::vector<float> hidden_rows(const Model& model) {
  const std::vector<int32_t> ids = some_ids(9);
  const Batch batch({{0, 0, static_cast<int64_t>(ids.size())}});
  const Tensor rows = model.transformer->hidden(ids, model.transformer->call(batch, DType::f32)).value();
  return {rows.span<float>().begin(), rows.span<float>().end()};
}

}  // namespace

TEST_CASE("models of one process round activations each in its own way") {
  using kernels::F32Activations;
  save_model_of_integers();
  const kernels::ActivationRounding roundings[] = {
      {F32Activations::exact, 16}, {F32Activations::integers, 16}, {F32Activations::integers, 8}};
  std::vector<std::vector<float>> alone;
  for (const auto& rounding : roundings) {
    Model model = load_model(rounded_path);
    set_rounding(model, rounding);
    alone.push_back(hidden_rows(model));
  }
  CHECK(alone[0] != alone[1]);
  CHECK(alone[1] != alone[2]);
  for (const bool defer : {false, true}) {
    CAPTURE(defer);
    std::vector<Model> together;
    for (const auto& rounding : roundings) {
      together.push_back(load_model(rounded_path, {.defer = defer}));
      set_rounding(together.back(), rounding);
    }
    for (const int turn : {0, 1}) {  // of deferred weights the first use, and a later one
      CAPTURE(turn);
      for (size_t i = 0; i < together.size(); ++i) CHECK(hidden_rows(together[i]) == alone[i]);
    }
    set_rounding(together[2], roundings[0]);
    CHECK(hidden_rows(together[2]) == alone[0]);
  }
  std::remove(rounded_path);
}

TEST_CASE("a model says which matrices take activations of 8 bits, unless it is told otherwise") {
  using kernels::F32Activations;
  save_model_of_integers(true);
  for (const bool defer : {false, true}) {
    CAPTURE(defer);
    const auto rows_with = [&](const kernels::ActivationRounding& rounding) {
      Model model = load_model(rounded_path, {.defer = defer});
      set_rounding(model, rounding);
      return hidden_rows(model);
    };
    const auto stored = rows_with({F32Activations::integers});
    CHECK(stored != rows_with({F32Activations::integers, 16}));
    CHECK(stored != rows_with({F32Activations::integers, 8}));
    CHECK(rows_with({}) == rows_with({F32Activations::exact, 16}));
    const Model untold = load_model(rounded_path, {.defer = defer});
    struct Counter : Reader {
      void weight(const ParameterInfo& info, const Weight& weight) override {
        CHECK(weight.activation_bits() == (info.name == of_8_bits ? 8 : 16));
        ++weights;
      }
      void parameter(const ParameterInfo&, const Parameter&) override {}
      int weights = 0;
    } counter;
    std::as_const(*untold.transformer).visit(counter);
    CHECK(counter.weights > 8);
    const ModelFile again = file_of(untold);
    CHECK(again.parameters.at(of_8_bits).attributes.at(activation_bits_attribute) == 8);
  }
  std::remove(rounded_path);
}
