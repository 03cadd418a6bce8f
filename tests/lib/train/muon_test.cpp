#include "train/optimizers/muon.h"

#include <doctest/doctest.h>

#include <cmath>

#include "base/stop.h"
#include "kernels/gemm/gemm.h"
#include "lib/train/runs.h"
#include "train/optimizer.h"

using namespace hone;
using namespace hone::test;

namespace {

// The largest distance of X X^T (on the smaller side) from the identity.
double distance_from_orthogonal(const Tensor& x) {
  const int64_t small = std::min(x.dim(0), x.dim(1));
  const Tensor square = Tensor::empty({small, small});
  const bool wide = x.dim(0) <= x.dim(1);
  kernels::gemm(x.view(), !wide, x.view(), wide, square.view());
  double most = 0;
  for (int64_t r = 0; r < small; ++r)
    for (int64_t c = 0; c < small; ++c)
      most = std::max(most, std::abs(static_cast<double>(square.data<float>()[r * small + c]) - (r == c ? 1.0 : 0.0)));
  return most;
}

double norm_of(const Tensor& x) {
  double squares = 0;
  for (const float v : x.span<float>()) squares += static_cast<double>(v) * static_cast<double>(v);
  return std::sqrt(squares);
}

RunSettings muon_settings(int64_t steps) {
  RunSettings s = settings(steps);
  s.step.optimizer.kind = &optimizer_named("muon");
  return s;
}

}  // namespace

TEST_CASE("a matrix is made orthogonal, wide or tall, in either type") {
  for (const DType type : {DType::f32, DType::bf16})
    for (const Shape& shape : {Shape{24, 96}, Shape{96, 24}, Shape{16, 48}}) {
      const Tensor x = random_tensor(shape, 3), before = x.clone();
      CHECK(distance_from_orthogonal(x) > 0.5);
      orthogonalize(x.view(), type);
      CHECK(distance_from_orthogonal(x) < 0.3);  // singular values from 0.85 to 1.13
      // The nearest one: its product with the matrix is about the sum of singular values, which is above the norm.
      double product = 0;
      for (int64_t i = 0; i < x.size(); ++i)
        product += static_cast<double>(x.data<float>()[i]) * static_cast<double>(before.data<float>()[i]);
      CHECK(product > 2 * norm_of(before));
    }
  const Tensor none = Tensor::zeros({4, 4});
  orthogonalize(none.view(), DType::f32);
  CHECK(norm_of(none) == 0.0);
}

TEST_CASE("blocks of a matrix are made orthogonal by themselves, with the bits that they have alone") {
  for (const DType type : {DType::f32, DType::bf16})
    for (const Shape& shape : {Shape{40, 24}, Shape{24, 24}, Shape{24, 40}})
      for (const int64_t block : {16, 24, 64, 0}) {
        CAPTURE(block);
        const Tensor x = random_tensor(shape, 3), expected = x.clone();
        orthogonalize_blocks(x.view(), block, type);
        const bool by_rows = shape[0] >= shape[1];
        const int64_t length = std::max(shape[0], shape[1]), each = block == 0 ? length : std::min(block, length);
        for (int64_t first = 0; first < length; first += each) {
          const int64_t size = std::min(each, length - first);
          orthogonalize(by_rows ? rows_of(expected.view(), first, size) : columns_of(expected.view(), first, size),
                        type);
        }
        CHECK(equal({{"x", x}}, {{"x", expected}}));
      }
}

TEST_CASE("of a diagonal matrix the signs are left") {
  const Tensor x = Tensor::of({2, 3}, {3, 0, 0, 0, -0.5f, 0});
  orthogonalize(x.view(), DType::f32);
  const float expected[] = {1, 0, 0, 0, -1, 0};
  for (int64_t i = 0; i < 6; ++i) CHECK(std::abs(x.data<float>()[i] - expected[i]) < 0.15f);
}

TEST_CASE("fused matrices are moved part by part, the rest by AdamW with a rate of its own") {
  Model model = fresh();
  Transformer& m = *model.transformer;
  {
    const auto state = Optimizer(m, muon_settings(1).step.optimizer).state();
    CHECK(state.contains("blocks.0.attention.qkv.weight.momentum"));
    CHECK(!state.contains("blocks.0.attention.qkv.weight.m"));
    CHECK(state.contains("embedding.weight.m"));
    CHECK(state.contains("blocks.0.attention_norm.gain.m"));
  }
  double momenta = 0;
  for (const char* name : {"attention.qkv", "attention.output", "feed_forward.gate_up", "feed_forward.down"})
    for (const char* layer : {"blocks.0.", "blocks.1."})
      momenta += static_cast<double>(after(model).at(std::string(layer) + name + ".weight").bytes());
  CHECK(optimizer_bytes(m.config(), muon_settings(1).step.optimizer) ==
        optimizer_bytes(m.config(), settings(1).step.optimizer) - momenta);
  struct Find : Visitor {
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      if (info.name == "blocks.0.attention.qkv.weight") qkv = weight->parameter();
      if (info.name == "embedding.weight") embedding = weight->parameter();
    }
    void parameter(const ParameterInfo&, Parameter&) override {}
    Parameter *qkv = nullptr, *embedding = nullptr;
  } find;
  m.visit(find);
  OptimizerSettings s = muon_settings(1).step.optimizer;
  s.adamw_rate = 0;
  Optimizer optimizer(m, s);
  const Tensor before = find.qkv->value.clone(), embedding = find.embedding->value.clone();
  const Tensor gradient = random_tensor(before.shape(), 7);
  gradient_to_add(*find.qkv) = gradient.clone();
  gradient_to_add(*find.embedding) = random_tensor(embedding.shape(), 8);
  optimizer.step(0.01, 0.5);
  CHECK(relative_error(find.embedding->value, embedding) == 0.0);
  // Layer 0 has 4 heads of 16, and 2 of keys and values. Of the first step the momentum is the gradient.
  for (const auto& [begin, rows] : std::map<int64_t, int64_t>{{0, 64}, {64, 32}, {96, 32}}) {
    const Tensor part = gradient.rows(begin, rows).clone(), expected = before.rows(begin, rows).clone();
    orthogonalize(part.view(), kernels::default_type());
    const double scale = 0.01 * 0.2 * std::sqrt(static_cast<double>(std::max<int64_t>(rows, 48)));
    for (int64_t i = 0; i < part.size(); ++i)
      expected.data<float>()[i] = static_cast<float>((1 - 0.01 * 0.1) * static_cast<double>(expected.data<float>()[i]) -
                                                     scale * static_cast<double>(part.data<float>()[i]));
    CHECK(relative_error(find.qkv->value.rows(begin, rows), expected) < 0.01);
  }
}

TEST_CASE("Muon trains, and resumes as if it had never stopped") {
  const std::string path = "train_test_muon.h5";
  Model straight = fresh();
  CHECK(run_training(straight, text(), nullptr, muon_settings(30)).loss < 4.5);  // from 5.6
  Model stopped = fresh();
  RunSettings s = muon_settings(30);
  s.checkpoint = path;
  s.before_step = [](int64_t step) {
    if (step == 12) raise_stop(2);
  };
  run_training(stopped, text(), nullptr, s);
  raise_stop(0);
  ModelFile rest;
  Model resumed = load_model(path, {.run = true}, &rest);
  CHECK(rest.run->at("optimizer") == "muon");
  run_training(resumed, text(), nullptr, muon_settings(30), &rest);
  CHECK(equal(after(straight), after(resumed)));
  std::remove(path.c_str());
}
