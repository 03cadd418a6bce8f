// Scores of routers of depth, the rows that go through, and the predictor.
#include "ops/depth.h"

#include "support/check.h"

using namespace hone;
using namespace hone::ops;
using namespace hone::test;

namespace {

struct Network {
  Parameter hidden, hidden_bias, output, output_bias;
  DepthPredictor predictor{hidden, hidden_bias, output, output_bias};
  Network() {
    hidden.value = random_tensor({6, 5}, 1);
    hidden_bias.value = random_tensor({6}, 2);
    output.value = random_tensor({1, 6}, 3);
    output_bias.value = random_tensor({1}, 4);
  }
};

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

double dot(const Tensor& a, int64_t row, const Tensor& b, int64_t other) {
  double sum = 0;
  for (int64_t c = 0; c < a.dim(1); ++c)
    sum += static_cast<double>(a.data<float>()[row * a.dim(1) + c]) *
           static_cast<double>(b.data<float>()[other * a.dim(1) + c]);
  return sum;
}

}  // namespace

TEST_CASE("scores are products with the router's weight, and a score of 0 weighs with 1") {
  Parameter weight;
  weight.value = random_tensor({1, 5}, 1);
  Tensor x = random_tensor({7, 5}, 2);
  for (int64_t c = 0; c < 5; ++c) x.data<float>()[3 * 5 + c] = 0;
  for (const DType type : {DType::f32, DType::bf16}) {
    const Tensor rows = x.to(type);
    const RowGates s = depth_scores(Var(rows), weight);
    for (int64_t r = 0; r < 7; ++r) {
      const double score = dot(rows.to(DType::f32), r, weight.value, 0);
      CHECK(static_cast<double>(s.scores.data<float>()[r]) == doctest::Approx(score).epsilon(1e-5));
      CHECK(static_cast<double>(s.gates.value().data<float>()[r]) == doctest::Approx(2 * sigmoid(score)).epsilon(1e-5));
    }
    CHECK(s.gates.value().data<float>()[3] == 1.0f);
  }
}

TEST_CASE("rows that go through come back where they were, weighted, and the others are 0") {
  const std::vector<int32_t> passing = {1, 2, 5};
  const auto plan = passing_plan(passing, 6);
  const Var x(random_tensor({6, 4}, 1)), gates(random_tensor({6, 1}, 2));
  const Tensor back = combine_slots(gather_slots(x, plan), gates, plan, Var()).value();
  for (int64_t r = 0; r < 6; ++r)
    for (int64_t c = 0; c < 4; ++c) {
      const bool passes = r == 1 || r == 2 || r == 5;
      CHECK(back.data<float>()[r * 4 + c] ==
            (passes ? gates.value().data<float>()[r] * x.value().data<float>()[r * 4 + c] : 0.0f));
    }
  CHECK(passing_plan({}, 3)->slots == 0);
}

TEST_CASE("gradients of what goes through, of its gate and of the router are those of finite differences") {
  Parameter weight;
  weight.value = random_tensor({1, 5}, 1, 0.5f);
  const Var x(random_tensor({6, 5}, 2), true);
  const auto plan = passing_plan(std::vector<int32_t>{0, 3, 4}, 6);
  check_gradients([&] { return combine_slots(gather_slots(x, plan), depth_scores(x, weight).gates, plan, Var()); },
                  {x.value(), weight.value}, [&](size_t i) { return i == 0 ? x.grad() : weight.grad; }, 1e-3);
}

TEST_CASE("a predictor is a layer of rectified units and one of a single output") {
  Network n;
  const Tensor x = random_tensor({9, 5}, 5), logits = predicted(x, n.predictor);
  const std::vector<uint8_t> best = {1, 0, 0, 1, 1, 0, 1, 0, 0};
  double loss = 0;
  for (int64_t r = 0; r < 9; ++r) {
    double logit = static_cast<double>(n.output_bias.value.data<float>()[0]);
    for (int64_t h = 0; h < 6; ++h)
      logit += static_cast<double>(n.output.value.data<float>()[h]) *
               std::max(0.0, dot(x, r, n.hidden.value, h) + static_cast<double>(n.hidden_bias.value.data<float>()[h]));
    CHECK(static_cast<double>(logits.data<float>()[r]) == doctest::Approx(logit).epsilon(1e-4));
    loss -= std::log(best[static_cast<size_t>(r)] ? sigmoid(logit) : 1 - sigmoid(logit)) / 9;
    CHECK(predicted(x.rows(r, 1), n.predictor).data<float>()[0] == logits.data<float>()[r]);
  }
  CHECK(static_cast<double>(depth_prediction(x, n.predictor, best).loss.value().data<float>()[0]) ==
        doctest::Approx(loss).epsilon(1e-4));
}

TEST_CASE("gradients of a predictor are those of finite differences, and none reaches what it reads") {
  Network n;
  const Var x(random_tensor({9, 5}, 5), true);
  const std::vector<uint8_t> best = {1, 0, 0, 1, 1, 0, 1, 0, 0};
  Parameter* const all[] = {&n.hidden, &n.hidden_bias, &n.output, &n.output_bias};
  check_gradients([&] { return depth_prediction(x.value(), n.predictor, best).loss; },
                  {n.hidden.value, n.hidden_bias.value, n.output.value, n.output_bias.value},
                  [&](size_t i) { return all[i]->grad; }, 1e-2, 1e-3f);
  CHECK_FALSE(x.grad());
}
