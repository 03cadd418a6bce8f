// The whole mixture against central differences: routers, gates, experts, shared experts, balance and z losses.
#include "ops/mixture.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "ops/activation.h"
#include "ops/linear.h"
#include "support/check.h"
#include "weights/dense_weight.h"
#include "weights/packed_weight.h"

using namespace hone;
using namespace hone::test;
using kernels::RouterKind;
using kernels::RouterNoise;

namespace {

constexpr int64_t rows = 9, dim = 6, ffn = 5, experts = 4;

Parameter parameter_of(Tensor value) {
  Parameter p;
  p.value = std::move(value);
  return p;
}

struct Case {
  Tensor x = random_tensor({rows, dim}, 1);
  Var input{x, true};
  Parameter router = parameter_of(random_tensor({experts, dim}, 2));
  std::vector<std::shared_ptr<DenseWeight>> up, down;
  std::vector<Parameter> biases;
  std::shared_ptr<DenseWeight> shared;
  ops::RouteSettings settings;
  Tensor selection_bias;

  explicit Case(bool with_shared) {
    for (uint64_t e = 0; e < experts; ++e) {
      up.push_back(std::make_shared<DenseWeight>(random_tensor({2 * ffn, dim}, 10 + e)));
      down.push_back(std::make_shared<DenseWeight>(random_tensor({dim, ffn}, 20 + e)));
      biases.push_back(parameter_of(random_tensor({dim}, 30 + e)));
    }
    if (with_shared) shared = std::make_shared<DenseWeight>(random_tensor({dim, dim}, 40));
  }

  ops::Routing route() { return ops::route(input, router, selection_bias, settings); }

  Var output() {
    const ops::Routing r = route();
    std::vector<ops::ExpertLinear> first, second;
    for (size_t e = 0; e < experts; ++e) {
      first.push_back({up[e], nullptr});
      second.push_back({down[e], &biases[e]});
    }
    const Var base = shared ? ops::linear(input, shared) : Var();
    const Var hidden = ops::swiglu(ops::grouped_linear(ops::gather_slots(input, r.plan), r.plan, first));
    return ops::combine_slots(ops::grouped_linear(hidden, r.plan, second), r.gates, r.plan, base);
  }

  // Everything that a gradient reaches: the input, the router, the first and last expert, the shared one.
  std::vector<Tensor> numbers() const {
    std::vector<Tensor> all = {x, router.value, up[0]->parameter()->value, down[3]->parameter()->value,
                               biases[3].value};
    if (shared) all.push_back(shared->parameter()->value);
    return all;
  }
  Tensor gradient(size_t i) {
    const Parameter* p[] = {
        nullptr, &router, up[0]->parameter(), down[3]->parameter(), &biases[3], shared ? shared->parameter() : nullptr};
    return i == 0 ? input.grad() : p[i]->grad;
  }
};

}  // namespace

TEST_CASE("mixture: gradients of input, router, experts and shared expert, for both routers") {
  at_every_isa([] {
    for (const RouterKind kind : {RouterKind::softmax, RouterKind::sigmoid})
      for (const int64_t k : {1, 2, 3})
        for (const bool shared : {false, true})
          for (const RouterNoise noise : {RouterNoise::none, RouterNoise::gumbel}) {
            CAPTURE(static_cast<int>(kind));
            CAPTURE(k);
            CAPTURE(shared);
            CAPTURE(static_cast<int>(noise));
            Case c(shared);
            c.settings.kind = kind;
            c.settings.top_k = k;
            c.settings.noise = noise;
            c.settings.temperature = 0.7f;
            c.settings.seed = 5;
            check_gradients([&] { return c.output(); }, c.numbers(), [&](size_t i) { return c.gradient(i); }, 5e-3,
                            1e-3f);
          }
  });
}

namespace {

Var sum_of(const Var& a, const Var& b) {
  const Var sum(Tensor::of({1}, {a.value().data<float>()[0] + b.value().data<float>()[0]}), true);
  if (Tape::recording())
    Tape::record([a, b, sum] {
      const Tensor d = sum.take_grad();
      a.add_grad(d.clone());
      b.add_grad(d);
    });
  return sum;
}

}  // namespace

TEST_CASE("gates that are not divided by their sum: values, and gradients for both routers") {
  at_every_isa([] {
    for (const RouterKind kind : {RouterKind::softmax, RouterKind::sigmoid})
      for (const int64_t k : {2, 4}) {
        CAPTURE(static_cast<int>(kind));
        CAPTURE(k);
        Case c(false);
        c.settings.kind = kind;
        c.settings.top_k = k;
        const Tensor parts = c.route().gates.value();
        c.settings.normalized_gates = false;
        const Tensor whole = c.route().gates.value();
        float least = 1;
        for (int64_t r = 0; r < rows; ++r) {
          const float *scores = whole.data<float>() + r * k, *shares = parts.data<float>() + r * k;
          float sum = 0;
          for (int64_t j = 0; j < k; ++j) sum += scores[j];
          for (int64_t j = 0; j < k; ++j) CHECK(std::abs(shares[j] - scores[j] / sum) < 1e-5f);
          if (kind == RouterKind::softmax) CHECK(sum < 1 + 1e-5f);
          least = std::min(least, sum);
        }
        if (kind == RouterKind::softmax) CHECK((least < 0.99f) == (k < experts));
        check_gradients([&] { return c.output(); }, c.numbers(), [&](size_t i) { return c.gradient(i); }, 5e-3, 1e-3f);
      }
  });
}

TEST_CASE("rows times gates of their own: values, and gradients of rows, scores and weight") {
  at_every_isa([] {
    Parameter weight;
    weight.value = random_tensor({1, 7}, 1, 0.5f);
    const Var x(random_tensor({5, 7}, 2), true), rows_of(random_tensor({5, 12}, 3), true);
    const auto scaled = [&] { return ops::scale_rows(rows_of, ops::row_gates(x, weight, 1).gates); };
    const Tensor y = scaled().value();
    for (int64_t r = 0; r < 5; ++r) {
      double score = 0;
      for (int64_t c = 0; c < 7; ++c)
        score += static_cast<double>(x.value().data<float>()[r * 7 + c]) *
                 static_cast<double>(weight.value.data<float>()[c]);
      for (int64_t c = 0; c < 12; ++c)
        CHECK(static_cast<double>(y.data<float>()[r * 12 + c]) ==
              doctest::Approx(static_cast<double>(rows_of.value().data<float>()[r * 12 + c]) / (1 + std::exp(-score)))
                  .epsilon(1e-5));
    }
    check_gradients(
        scaled, {x.value(), weight.value, rows_of.value()},
        [&](size_t i) { return i == 0   ? x.grad()
                               : i == 1 ? weight.grad
                                        : rows_of.grad(); }, 1e-3);
  });
}

TEST_CASE("balance and z losses: values and gradients, with a selection bias, for both routers") {
  at_every_isa([] {
    for (const RouterKind kind : {RouterKind::softmax, RouterKind::sigmoid})
      for (const RouterNoise noise : {RouterNoise::none, RouterNoise::gaussian, RouterNoise::gumbel}) {
        Case c(false);
        c.settings.kind = kind;
        c.settings.top_k = 2;
        c.settings.noise = noise;
        c.settings.temperature = 0.5f;
        c.settings.seed = 9;
        c.settings.balance_weight = 0.3;
        c.settings.z_weight = 0.2;
        c.selection_bias = Tensor::of({experts}, {0.1f, -0.2f, 0.0f, 0.3f});
        const std::vector<int64_t> earlier = {7, 0, 3, 40};
        if (noise == RouterNoise::gaussian) c.settings.earlier_counts = &earlier;
        const auto loss = [&] {
          const ops::Routing r = c.route();
          return sum_of(r.balance, r.z);
        };
        check_gradients(
            loss, {c.x, c.router.value}, [&](size_t i) { return c.gradient(i); }, 5e-3, 1e-3f);
        c.settings.balance_weight = c.settings.z_weight = 0;
        CHECK_FALSE(c.route().balance);
        CHECK_FALSE(c.route().z);
      }
  });
}

TEST_CASE("the balance loss is its weight where all is even, and the z loss that of equal logits") {
  Case c(false);
  for (float& w : c.router.value.span<float>()) w = 0;  // equal scores: P is even whatever the choice
  c.settings.top_k = experts;
  c.settings.balance_weight = 0.01;
  c.settings.z_weight = 0.001;
  c.settings.entropy = true;
  Tape tape;
  const ops::Routing r = c.route();
  CHECK(r.balance_loss == doctest::Approx(0.01).epsilon(1e-5));
  CHECK(r.z_loss == doctest::Approx(0.001 * std::log(4.0) * std::log(4.0)).epsilon(1e-5));
  CHECK(r.entropy == doctest::Approx(static_cast<double>(rows) * std::log(4.0)).epsilon(1e-5));
  CHECK(static_cast<double>(r.balance.value().data<float>()[0]) == doctest::Approx(r.balance_loss).epsilon(1e-5));
  CHECK(static_cast<double>(r.z.value().data<float>()[0]) == doctest::Approx(r.z_loss).epsilon(1e-5));
}

TEST_CASE("the balance loss counts the choices of a step's earlier batches") {
  Case c(false);
  c.settings.top_k = 2;
  c.settings.balance_weight = 0.5;
  const auto loss_with = [&](const std::vector<int64_t>* earlier) {
    Tape tape;
    c.settings.earlier_counts = earlier;
    return c.route();
  };
  const ops::Routing alone = loss_with(nullptr);
  // As many choices again in the same shares change nothing; f is theirs where they are many more.
  const std::vector<int64_t> same = alone.plan->counts;
  CHECK(loss_with(&same).balance_loss == doctest::Approx(alone.balance_loss));
  double sum = 0;
  for (size_t e = 0; e < experts; ++e) {
    std::vector<int64_t> one(experts);
    one[e] = int64_t{1} << 40;
    const double loss = loss_with(&one).balance_loss;
    CHECK(loss > 0);
    CHECK(loss != doctest::Approx(alone.balance_loss));
    sum += loss;
  }
  CHECK(sum == doctest::Approx(0.5 * experts).epsilon(1e-5));  // weight * experts * the sum of all P, which is 1
}

TEST_CASE(
    "few rows of experts, multiplied together, are each expert's product bit for bit; also with packed experts mixed "
    "in") {
  at_every_isa([] {
    auto plan = std::make_shared<ops::RoutePlan>();
    plan->rows = plan->slots = 6;
    plan->offsets = {0, 2, 2, 5, 6};
    const Tensor x = random_tensor({6, 40}, 1);
    for (const DType type : {DType::f32, DType::bf16})
      for (const bool packed : {false, true}) {
        const Var input(x.to(type));
        std::vector<ops::ExpertLinear> layers;
        Parameter bias = parameter_of(random_tensor({70}, 3));
        for (uint64_t e = 0; e < 4; ++e) {
          std::shared_ptr<Weight> weight = std::make_shared<DenseWeight>(random_tensor({70, 40}, 10 + e));
          if (packed && e != 2) weight = pack_bf16(weight->to_dense(), {});
          layers.push_back({weight, e == 3 ? &bias : nullptr});
        }
        const Tensor y = ops::grouped_linear(input, plan, layers).value();
        for (size_t e = 0; e < 4; ++e) {
          const int64_t first = plan->offsets[e], count = plan->offsets[e + 1] - first;
          if (count == 0) continue;
          const Var part(input.value().rows(first, count));
          const Tensor expected = ops::linear(part, layers[e].weight, layers[e].bias).value();
          CHECK(relative_error(y.rows(first, count), expected) == 0.0);
        }
      }
  });
}

TEST_CASE("capacity: slots beyond it are left out and counted; rows that lose all their slots give zero") {
  Case c(false);
  c.settings.top_k = 1;
  c.settings.capacity_factor = 0.5;  // ceil(0.5 * 9 / 4) = 2 of each expert
  const ops::Routing r = c.route();
  int64_t kept = 0;
  for (size_t e = 0; e < experts; ++e) {
    CHECK(r.plan->offsets[e + 1] - r.plan->offsets[e] == std::min<int64_t>(r.plan->counts[e], 2));
    kept += std::min<int64_t>(r.plan->counts[e], 2);
  }
  CHECK(r.plan->slots == kept);
  CHECK(r.plan->left_out() == rows - kept);
  REQUIRE(r.plan->left_out() > 0);
  const Tensor y = c.output().value();
  for (int64_t row = 0; row < rows; ++row)
    if (r.plan->places.data<int32_t>()[row] < 0)
      for (int64_t i = 0; i < dim; ++i) CHECK(y.data<float>()[row * dim + i] == 0.0f);
  check_gradients([&] { return c.output(); }, {c.x, c.router.value}, [&](size_t i) { return c.gradient(i); }, 5e-3,
                  1e-3f);
}

TEST_CASE("an expert that gets no row is not touched") {
  Case c(false);
  c.settings.top_k = 1;
  c.selection_bias = Tensor::of({experts}, {0, 10, 0, 0});
  {
    Tape tape;
    const Var y = c.output();
    tape.backward(y, random_tensor({rows, dim}, 3));
  }
  for (size_t e = 0; e < experts; ++e) {
    CHECK(c.up[e]->parameter()->has_grad == (e == 1));
    CHECK(c.biases[e].has_grad == (e == 1));
  }
}

TEST_CASE("logits that are not finite are reported, not routed") {
  Case c(false);
  c.router.value.data<float>()[3] = INFINITY;
  const ops::Routing r = c.route();
  CHECK_FALSE(r.finite);
  CHECK_FALSE(r.plan);
}
