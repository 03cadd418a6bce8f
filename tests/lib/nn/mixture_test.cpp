// A mixture as a module: the selection bias, its report, and its experts
// against plain ones.
#include "nn/mixture.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "lib/nn/plain.h"

using namespace hone;
using namespace hone::test;

namespace {

constexpr int64_t dim = 24;

BlockBlueprint blueprint() {
  BlockBlueprint b;
  b.dim = dim;
  return b;
}

LayerBlueprint layer(int64_t experts, int64_t top_k, int64_t shared = 0) {
  LayerBlueprint l;
  l.ffn = 16;
  l.experts = experts;
  l.top_k = top_k;
  l.shared_experts = shared;
  return l;
}

Parameter& selection_bias(Mixture& mixture) {
  struct Find : Visitor {
    void weight(const ParameterInfo&, std::shared_ptr<Weight>&) override {}
    void parameter(const ParameterInfo& info, Parameter& parameter) override {
      if (info.role == Role::router_bias) found = &parameter;
    }
    Parameter* found = nullptr;
  } find;
  mixture.visit(Place{"m"}, find);
  REQUIRE(find.found);
  return *find.found;
}

std::vector<float> numbers(const Parameter& p) {
  return {p.value.span<float>().begin(), p.value.span<float>().end()};
}

}  // namespace

TEST_CASE(
    "balancing moves each bias by the rate, towards those with less than "
    "the mean") {
  Mixture mixture(blueprint(), layer(4, 2));
  Parameter& bias = selection_bias(mixture);
  CHECK(!bias.trainable);
  CHECK(numbers(bias) == std::vector<float>{0, 0, 0, 0});
  const uint64_t version = bias.version;
  mixture.balance({10, 2, 4, 0}, 0.5);  // mean 4
  CHECK(numbers(bias) == std::vector<float>{-0.5f, 0.5f, 0, 0.5f});
  CHECK(bias.version > version);
  mixture.balance({0, 0, 0, 16}, 0.25);
  CHECK(numbers(bias) == std::vector<float>{-0.25f, 0.75f, 0.25f, 0.25f});
}

TEST_CASE("equal loads move nothing, also where their mean is no whole number") {
  Mixture mixture(blueprint(), layer(3, 1));
  Parameter& bias = selection_bias(mixture);
  for (const int64_t load : {0, 1, 7, 1000003}) mixture.balance({load, load, load}, 0.1);
  CHECK(numbers(bias) == std::vector<float>{0, 0, 0});
  mixture.balance({3, 3, 4}, 0.5);  // mean 10/3
  CHECK(numbers(bias) == std::vector<float>{0.5f, 0.5f, -0.5f});
}

TEST_CASE("a bias changes which experts are chosen, not how they count") {
  Mixture mixture(blueprint(), layer(4, 1));
  Parameters::randomize(mixture, "m", 1);
  Parameter& bias = selection_bias(mixture);
  const Tensor x = random_tensor({50, dim}, 2);
  const auto load = [&] {
    ModelRouting routing;
    Call call;
    call.batch = Batch::whole(1, 50);
    call.trace.routing = &routing;
    mixture.forward(Var(x), call, 1);
    REQUIRE(routing.size() == 2);
    CHECK(routing[0].load.empty());
    CHECK(routing[1].tokens == 50);
    CHECK(routing[1].calls == 1);
    return routing[1].load;
  };
  std::ranges::fill(bias.value.span<float>(), 0.0f);
  const auto before = load();
  CHECK(std::accumulate(before.begin(), before.end(), int64_t{0}) == 50);
  bias.value.data<float>()[2] = 100;
  CHECK(load() == std::vector<int64_t>{0, 0, 50, 0});
  const Tensor alone = mixture.forward(Var(x), {}, 0).y.value();
  bias.value.data<float>()[2] = 50;
  CHECK(relative_error(mixture.forward(Var(x), {}, 0).y.value(), alone) == 0.0);
}

TEST_CASE(
    "with all experts chosen a mixture is the sum of each by its share, "
    "and of the shared one, by its gate where it has one") {
  LayerBlueprint three = layer(3, 3, 2);
  SUBCASE("without a gate") {}
  SUBCASE("with a gate") {
    three.shared_gate = true;
  }
  Mixture mixture(blueprint(), three);
  const Named p = Parameters::randomize(mixture, "m", 1);
  const Tensor x = random_tensor({9, dim}, 2);
  const Plain in(x);
  Plain expected = plain_feed_forward(p, "m.shared", in, activation_named("swiglu"));
  CHECK(p.contains("m.shared_gate.weight") == three.shared_gate);
  if (three.shared_gate) {
    const Plain scores = plain_linear(p, "m.shared_gate", in);
    for (int64_t r = 0; r < in.rows; ++r)
      for (int64_t c = 0; c < dim; ++c) expected(r, c) /= 1 + std::exp(-scores(r, 0));
  }
  const Plain logits = plain_linear(p, "m.router", in);  // the router's bias is of the choice alone
  for (int64_t e = 0; e < 3; ++e) {
    const Plain out = plain_feed_forward(p, "m.experts." + std::to_string(e), in, activation_named("swiglu"));
    for (int64_t r = 0; r < in.rows; ++r) {
      double sum = 0, largest = -1e30;
      const auto logit = [&](int64_t i) { return logits(r, i) - p.at("m.router.bias")(0, i); };
      for (int64_t i = 0; i < 3; ++i) largest = std::max(largest, logit(i));
      for (int64_t i = 0; i < 3; ++i) sum += std::exp(logit(i) - largest);
      for (int64_t c = 0; c < dim; ++c) expected(r, c) += std::exp(logit(e) - largest) / sum * out(r, c);
    }
  }
  CHECK(plain_error(mixture.forward(Var(x), {}, 0).y.value(), expected) < 1e-5);
}

TEST_CASE("a router that is not finite is an error that names its layer") {
  Mixture mixture(blueprint(), layer(4, 2));
  Parameters::randomize(mixture, "m", 1);
  const Tensor x = random_tensor({3, dim}, 2);
  x.data<float>()[5] = NAN;
  try {
    mixture.forward(Var(x), {}, 7);
    FAIL("not refused");
  } catch (const RouterError& error) {
    CHECK(std::string(error.what()).find("layer 7") != std::string::npos);
  }
}

TEST_CASE("balance and z losses are terms of their own, and none without a weight") {
  Mixture mixture(blueprint(), layer(4, 2));
  Parameters::randomize(mixture, "m", 1);
  const Tensor x = random_tensor({30, dim}, 2);
  Call call;
  CHECK(mixture.forward(Var(x), call, 0).terms.empty());
  call.router.balance_weight = 0.1;
  call.router.z_weight = 0.01;
  ModelRouting routing;
  call.trace.routing = &routing;
  const FeedForwardOutput out = mixture.forward(Var(x), call, 0);
  REQUIRE(out.terms.size() == 2);
  CHECK(out.terms[0].name == "balance");
  CHECK(out.terms[1].name == "router_z");
  const auto value = [&](size_t i) { return static_cast<double>(out.terms[i].value.value().data<float>()[0]); };
  CHECK(value(0) == doctest::Approx(routing[0].balance_loss).epsilon(1e-6));
  CHECK(value(1) == doctest::Approx(routing[0].z_loss).epsilon(1e-6));
  CHECK(value(0) >= 0.1 * 0.99);  // 1 is even
}
