// Every op against PyTorch's values and gradients (tests/fixtures/make_fixtures.py), at every instruction set.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "fixtures/fixture.h"
#include "kernels/rows/elementwise.h"
#include "ops/activation.h"
#include "ops/norm.h"
#include "support/check.h"

using namespace hone;
using namespace hone::test;

namespace {

constexpr double kTolerance = 1e-5;

const Fixture& reference() {
  static const Fixture fixture("ops");
  return fixture;
}

Parameter parameter(const std::string& array) {
  Parameter p;
  p.value = reference().tensor(array);
  return p;
}

// The op's output, and the gradient of its input x after a backward pass from the reference's dy.
void check_against(const std::string& op, const Var& x, const std::string& input, const std::function<Var()>& f) {
  CAPTURE(op);
  Tape tape;
  const Var y = f();
  const Shape flat = y.shape();
  CHECK(relative_error(y.value(), reference().tensor(op + "/y")) < kTolerance);
  tape.backward(y, reference().tensor(op + "/dy").reshape(flat));
  CHECK(relative_error(x.grad(), reference().tensor(op + "/d" + input)) < kTolerance);
}

}  // namespace

TEST_CASE("RMSNorm and LayerNorm equal PyTorch's") {
  at_every_isa([] {
    for (const bool center : {false, true}) {
      const std::string op = center ? "layer_norm" : "rms_norm";
      ops::NormFunction& norm = center ? ops::add_layer_norm : ops::add_rms_norm;
      const Var x(reference().tensor(op + "/x"), true);
      Parameter gain = parameter(op + "/gain"), bias;
      if (center) bias = parameter(op + "/bias");
      const float epsilon = reference().config().at(op).at("eps").get<float>();
      check_against(op, x, "x", [&] { return norm(x, Var(), gain, center ? &bias : nullptr, epsilon, DType::f32).y; });
      CHECK(relative_error(gain.grad, reference().tensor(op + "/dgain")) < kTolerance);
      if (center) CHECK(relative_error(bias.grad, reference().tensor(op + "/dbias")) < kTolerance);
    }
  });
}

TEST_CASE("GELU's tanh form and SwiGLU equal PyTorch's") {
  at_every_isa([] {
    const Var x(reference().tensor("gelu_tanh/x"), true), gate_up(reference().tensor("swiglu/gate_up"), true);
    check_against("gelu_tanh", x, "x", [&] { return ops::gelu(x); });
    check_against("swiglu", gate_up, "gate_up", [&] { return ops::swiglu(gate_up); });
  });
}

TEST_CASE("rotary positions equal PyTorch's in the half-split convention, far positions included") {
  at_every_isa([] {
    const Tensor x = reference().tensor("rope/x"), positions = reference().tensor("rope/positions");
    const int64_t rows = x.dim(0), heads = x.dim(1), head_dim = x.dim(2);
    const auto table = ops::RopeTable::make(4096, head_dim, reference().config().at("rope").at("theta").get<double>());
    const Var input(x.reshape({rows, heads * head_dim}), true);
    check_against("rope", input, "x",
                  [&] { return ops::rope(input, heads, head_dim, positions.span<int32_t>(), table); });
  });
}

TEST_CASE("cross-entropy equals PyTorch's: the losses and the gradient of their mean") {
  at_every_isa([] {
    const Tensor logits = reference().tensor("cross_entropy/logits"),
                 targets = reference().tensor("cross_entropy/targets");
    const int64_t rows = logits.dim(0);
    const Tensor losses = Tensor::empty({rows});
    std::vector<uint8_t> correct(static_cast<size_t>(rows));
    kernels::CrossEntropy a;
    a.logits = logits.view();
    a.vocabulary = logits.dim(1);
    a.targets = targets.data<int32_t>();
    a.losses = losses.data<float>();
    a.correct = correct.data();
    a.gradient_scale = 1.0f / static_cast<float>(rows);
    kernels::cross_entropy(a);
    CHECK(relative_error(losses, reference().tensor("cross_entropy/losses")) < kTolerance);
    CHECK(relative_error(logits, reference().tensor("cross_entropy/dlogits")) < kTolerance);
  });
}

TEST_CASE("a soft cap and its slope equal PyTorch's") {
  at_every_isa([] {
    const float cap = reference().config().at("softcap").at("cap").get<float>();
    const Tensor x = reference().tensor("softcap/x"), d = reference().tensor("softcap/dy");
    const Tensor y = Tensor::empty(x.shape());
    kernels::softcap(x.view(), y.view(), cap);
    CHECK(relative_error(y, reference().tensor("softcap/y")) < kTolerance);
    kernels::softcap_backward(y.view(), d.view(), cap);
    CHECK(relative_error(d, reference().tensor("softcap/dx")) < kTolerance);
  });
}

TEST_CASE("cross-entropy with the square of log Z equals PyTorch's") {
  at_every_isa([] {
    const Tensor logits = reference().tensor("z_loss/logits"), targets = reference().tensor("z_loss/targets");
    const auto rows = static_cast<size_t>(logits.dim(0));
    std::vector<float> losses(rows), log_sums(rows, 99);
    std::vector<uint8_t> correct(rows);
    double scored = 0, squares = 0;
    for (const int32_t target : targets.span<int32_t>()) scored += target >= 0;
    kernels::CrossEntropy a;
    a.logits = logits.view();
    a.vocabulary = logits.dim(1);
    a.targets = targets.data<int32_t>();
    a.losses = losses.data();
    a.correct = correct.data();
    a.log_sums = log_sums.data();
    a.gradient_scale = static_cast<float>(1 / scored);
    a.z_weight = reference().config().at("z_loss").at("weight").get<float>();
    kernels::cross_entropy(a);
    for (const float x : log_sums) squares += static_cast<double>(x) * static_cast<double>(x);
    CHECK(squares / scored == doctest::Approx(reference().tensor("z_loss/z").data<float>()[0]).epsilon(1e-5));
    CHECK(relative_error(logits, reference().tensor("z_loss/dlogits")) < kTolerance);
  });
}

TEST_CASE("AdamW equals torch.optim.AdamW, parameters and moments after each step") {
  at_every_isa([] {
    const nlohmann::json& c = reference().config().at("adamw");
    const Tensor value = reference().tensor("adamw/parameter/0");
    const Tensor m = Tensor::zeros(value.shape()), v = Tensor::zeros(value.shape());
    for (int step = 1; step <= c.at("steps").get<int>(); ++step) {
      const std::string n = std::to_string(step);
      const Tensor grad = reference().tensor("adamw/gradient/" + n);
      kernels::AdamW a;
      a.count = value.size();
      a.value = value.data<float>();
      a.grad = grad.data<float>();
      a.m = m.data<float>();
      a.v = v.data<float>();
      a.learning_rate = c.at("lr").get<float>();
      a.beta1 = c.at("beta1").get<float>();
      a.beta2 = c.at("beta2").get<float>();
      a.epsilon = c.at("eps").get<float>();
      a.weight_decay = c.at("weight_decay").get<float>();
      a.correction1 = 1 - std::pow(a.beta1, static_cast<float>(step));
      a.correction2 = 1 - std::pow(a.beta2, static_cast<float>(step));
      kernels::adamw(a);
      CHECK(relative_error(value, reference().tensor("adamw/parameter/" + n)) < kTolerance);
      CHECK(relative_error(m, reference().tensor("adamw/first_moment/" + n)) < kTolerance);
      CHECK(relative_error(v, reference().tensor("adamw/second_moment/" + n)) < kTolerance);
    }
  });
}
