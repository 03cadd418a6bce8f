// Divergence from a teacher: kernels against the formula in double precision, and gradients by finite differences.
#include "ops/divergence.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "support/check.h"
#include "weights/dense_weight.h"

using namespace hone;
using namespace hone::test;

namespace {

constexpr int64_t rows = 5, vocabulary = 37, padded = 40;
constexpr float temperature = 1.7f;

double at(const Tensor& t, int64_t r, int64_t c) {
  return static_cast<double>(t.data<float>()[r * t.dim(1) + c]);
}

std::vector<double> probabilities(const Tensor& logits, int64_t r) {
  std::vector<double> p;
  for (int64_t c = 0; c < vocabulary; ++c) p.push_back(std::exp(at(logits, r, c) / static_cast<double>(temperature)));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
  return p;
}

// The teacher's `count` likeliest of each row, as kernels::TopPredictions has them.
std::pair<Tensor, Tensor> likeliest(const Tensor& logits, int64_t count) {
  const Tensor ids = Tensor::empty({rows, count}, DType::i32), kept = Tensor::empty({rows, count + 1});
  for (int64_t r = 0; r < rows; ++r) {
    const std::vector<double> p = probabilities(logits, r);
    std::vector<int32_t> order(vocabulary);
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, std::greater(), [&](int32_t i) { return p[static_cast<size_t>(i)]; });
    double rest = 1;
    for (int64_t k = 0; k < count; ++k) {
      const int32_t id = ids.data<int32_t>()[r * count + k] = order[static_cast<size_t>(k)];
      rest -= p[static_cast<size_t>(id)];
      kept.data<float>()[r * (count + 1) + k] = static_cast<float>(p[static_cast<size_t>(id)]);
    }
    kept.data<float>()[r * (count + 1) + count] = static_cast<float>(count == vocabulary ? 0 : rest);
  }
  return {ids, kept};
}

// The divergence of a row, with outcomes beyond the first `count` of the teacher taken as one.
double expected_loss(const Tensor& student, const Tensor& teacher, int64_t r, int64_t count) {
  const std::vector<double> p = probabilities(teacher, r), q = probabilities(student, r);
  const auto [ids, kept] = likeliest(teacher, count);
  double loss = 0, p_rest = 1, q_rest = 1;
  for (int64_t k = 0; k < count; ++k) {
    const auto id = static_cast<size_t>(ids.data<int32_t>()[r * count + k]);
    loss += p[id] * std::log(p[id] / q[id]);
    p_rest -= p[id];
    q_rest -= q[id];
  }
  if (count < vocabulary) loss += p_rest * std::log(p_rest / q_rest);
  return loss * static_cast<double>(temperature) * static_cast<double>(temperature);
}

struct Result {
  std::vector<float> losses = std::vector<float>(rows);
  Tensor gradient;
};

Result run(const Tensor& student, const Tensor& teacher, int64_t count, float scale, DType type = DType::f32) {
  static const std::vector<int32_t> targets = {3, 0, -1, 36, 9};
  Result result;
  result.gradient = student.clone().to(type);
  if (result.gradient.raw() == student.raw()) result.gradient = student.clone();
  kernels::DivergenceRows a;
  const Tensor in_type = teacher.to(type);
  a.logits = result.gradient.view();
  a.teacher = in_type.view();
  a.vocabulary = vocabulary;
  a.temperature = temperature;
  a.targets = targets.data();
  a.losses = result.losses.data();
  a.gradient_scale = scale;
  if (count == 0) {
    kernels::divergence(a);
  } else {
    const auto [ids, kept] = likeliest(teacher, count);
    kernels::divergence_from_top(a, {count, ids.data<int32_t>(), kept.data<float>()});
  }
  return result;
}

}  // namespace

TEST_CASE("divergence: losses as the formula says, of all tokens and of the likeliest with the rest as one") {
  const Tensor student = random_tensor({rows, padded}, 1, 3), teacher = random_tensor({rows, padded}, 2, 3);
  at_every_isa([&] {
    for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{6}, vocabulary}) {
      CAPTURE(count);
      const Result got = run(student, teacher, count, 0);
      const Result rounded = run(student, teacher, count, 0, DType::bf16);
      for (int64_t r = 0; r < rows; ++r) {
        const double expected = r == 2 ? 0 : expected_loss(student, teacher, r, count ? count : vocabulary);
        CHECK(static_cast<double>(got.losses[static_cast<size_t>(r)]) == doctest::Approx(expected).epsilon(1e-5));
        CHECK(static_cast<double>(rounded.losses[static_cast<size_t>(r)]) == doctest::Approx(expected).epsilon(0.03));
      }
      CHECK(relative_error(got.gradient, student) == 0);  // nothing was asked for: they are as they were
    }
  });
}

TEST_CASE("divergence: gradients by finite differences; none of padding and of rows that are not scored") {
  const Tensor student = random_tensor({rows, padded}, 1, 2), teacher = random_tensor({rows, padded}, 2, 2);
  at_every_isa([&] {
    for (const int64_t count : {int64_t{0}, int64_t{4}}) {
      CAPTURE(count);
      const Tensor analytic = run(student, teacher, count, 0.5f).gradient;
      const Tensor numeric = Tensor::zeros({rows, padded});
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < vocabulary && r != 2; ++c) {
          const Tensor moved = student.clone();
          float& x = moved.data<float>()[r * padded + c];
          const auto loss = [&](float by) {
            const float before = x;
            x += by;
            const double value = expected_loss(moved, teacher, r, count ? count : vocabulary);
            x = before;
            return value;
          };
          numeric.data<float>()[r * padded + c] = static_cast<float>(0.5 * (loss(1e-2f) - loss(-1e-2f)) / 2e-2);
        }
      CHECK(relative_error(analytic, numeric) < 1e-3);
      CHECK(relative_error(run(student, teacher, count, 0.5f, DType::bf16).gradient, numeric) < 0.02);
    }
  });
}

TEST_CASE("a model does not diverge from itself") {
  const Tensor logits = random_tensor({rows, padded}, 1, 5);
  const Result same = run(logits, logits, 0, 1);
  for (const float loss : same.losses) CHECK(static_cast<double>(loss) < 1e-5);
  CHECK(relative_error(same.gradient, Tensor::zeros({rows, padded}), 1) < 1e-6);
}

namespace {

// `caps`: of the model's logits and of the teacher's.
void check_divergence_head(float cap, float teacher_cap) {
  const Tensor x = random_tensor({6, 5}, 1), hidden = random_tensor({6, 4}, 3);
  const auto head = std::make_shared<DenseWeight>(random_tensor({9, 5}, 2));
  const auto teacher =
      ops::predictions_of(hidden, {std::make_shared<DenseWeight>(random_tensor({9, 4}, 4)), 7, teacher_cap});
  const std::vector<int32_t> targets = {0, 6, -1, 3, 3, 2};
  Var input(x, true);
  const auto term = [&](float weight) {
    return ops::divergence_head("teacher", input, {head, 7, cap}, *teacher, 2, targets, weight);
  };
  {
    Tape tape;
    const LossTerm loss = term(0.7f);
    tape.backward(std::span(&loss, 1));
  }
  const auto numeric = [&](const Tensor& numbers) {
    const Tensor result = Tensor::empty(numbers.shape());
    for (int64_t i = 0; i < numbers.size(); ++i) {
      float& n = numbers.data<float>()[i];
      const float kept = n;
      const auto value = [&](float by) {
        n = kept + by;
        return static_cast<double>(term(1).value.value().data<float>()[0]);
      };
      result.data<float>()[i] = static_cast<float>(0.7 * (value(1e-2f) - value(-1e-2f)) / 2e-2);
      n = kept;
    }
    return result;
  };
  CHECK(relative_error(input.grad(), numeric(x)) < 2e-3);
  CHECK(relative_error(head->parameter()->grad, numeric(head->parameter()->value)) < 2e-3);
}

}  // namespace

TEST_CASE("divergence_head: the gradients of hidden states and head, in chunks of rows") {
  check_divergence_head(0, 0);
  check_divergence_head(1.5f, 0);
  check_divergence_head(1.5f, 0.8f);
}

TEST_CASE("a teacher's predictions have its soft cap") {
  const Tensor hidden = random_tensor({6, 4}, 3);
  const auto weight = std::make_shared<DenseWeight>(random_tensor({9, 4}, 4));
  const std::vector<int32_t> targets(6, 0);
  const auto loss = [&](float cap, float teacher_cap) {
    const auto teacher = ops::predictions_of(hidden, {weight, 7, teacher_cap});
    const LossTerm term = ops::divergence_head("teacher", Var(hidden), {weight, 7, cap}, *teacher, 1, targets, 1);
    return static_cast<double>(term.value.value().data<float>()[0]);
  };
  CHECK(loss(0.8f, 0.8f) < 1e-5);
  CHECK(loss(0, 0.8f) > 1e-3);
  CHECK(loss(0.8f, 0) > 1e-3);
}

TEST_CASE("match_rows: relative squared distance of each row, and its gradients") {
  const Tensor residual = random_tensor({4, 6}, 1), branch = random_tensor({4, 6}, 2),
               teacher = random_tensor({4, 6}, 3);
  Var stream(residual, true), added(branch, true);
  const auto term = [&](float weight) { return ops::match_rows("hidden", stream, added, teacher, weight); };
  double expected = 0;
  for (int64_t r = 0; r < 4; ++r) {
    double error = 0, norm = 0;
    for (int64_t c = 0; c < 6; ++c) {
      error += std::pow(at(residual, r, c) + at(branch, r, c) - at(teacher, r, c), 2);
      norm += std::pow(at(teacher, r, c), 2);
    }
    expected += error / norm / 4;
  }
  CHECK(static_cast<double>(term(1).value.value().data<float>()[0]) == doctest::Approx(expected).epsilon(1e-5));
  {
    Tape tape;
    const LossTerm loss = term(3);
    tape.backward(std::span(&loss, 1));
  }
  CHECK(relative_error(stream.grad(), added.grad()) == 0);
  const Tensor numeric = Tensor::empty(residual.shape());
  for (int64_t i = 0; i < residual.size(); ++i) {
    float& n = residual.data<float>()[i];
    const float kept = n;
    const auto value = [&](float by) {
      n = kept + by;
      return static_cast<double>(term(1).value.value().data<float>()[0]);
    };
    numeric.data<float>()[i] = static_cast<float>(3 * (value(1e-2f) - value(-1e-2f)) / 2e-2);
    n = kept;
  }
  CHECK(relative_error(stream.grad(), numeric) < 2e-3);
}
