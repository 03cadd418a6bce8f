// Mixtures whose experts lie with several ranks, as threads here: what they compute is what one that has all does.
#include <doctest/doctest.h>

#include <cstdio>
#include <mutex>

#include "base/error.h"
#include "comm/thread_ranks.h"
#include "kernels/rows/elementwise.h"
#include "lib/model/some_masks.h"
#include "model/division.h"
#include "model/session.h"
#include "model/store.h"
#include "model/upcycle.h"
#include "support/check.h"
#include "support/models.h"

using namespace hone;
using namespace hone::test;

namespace {

const DivisionKind& expert() {
  return division_named("expert");
}

ModelRanks by_experts(const std::shared_ptr<Communicator>& ranks) {
  return {expert(), ranks};
}

Config two_mixtures() {
  Config c = small_config();
  for (LayerBlueprint& layer : c.layers) {
    layer.experts = 4;
    layer.top_k = 2;
    layer.ffn = 32;
  }
  return c;
}

using GradientsByName = std::map<std::string, Tensor>;

struct GradientCollector : Visitor {
  GradientsByName all;
  std::map<std::string, RankPart> parts;
  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    parameter(info, *weight->parameter());
  }
  void parameter(const ParameterInfo& info, Parameter& parameter) override {
    parts[info.name] = info.part;
    if (parameter.has_grad) all[info.name] = parameter.grad.clone();
  }
};

// All tokens to the first two experts.
void choose_two(Transformer& model) {
  struct Chooser : Visitor {
    void weight(const ParameterInfo&, std::shared_ptr<Weight>&) override {}
    void parameter(const ParameterInfo& info, Parameter& parameter) override {
      if (info.role != Role::router_bias) return;
      for (const int64_t e : {0, 1}) parameter.value.data<float>()[e] = 100;
      ++parameter.version;
    }
  } chooser;
  model.visit(chooser);
}

struct Way {
  RecomputePlan recompute = {};
  RouterCall router = {};
  bool two_alone = false;
};

// The loss of batch `number`; its gradients are added to the model's.
double train_on(Transformer& model, int number, const Way& way) {
  const std::vector<int32_t> ids = some_ids(240);
  const std::span<const int32_t> own = std::span(ids).subspan(static_cast<size_t>(number) * 60, 49);
  Call call = model.call(Batch::whole(2, 24), DType::f32);
  call.noise = {static_cast<uint64_t>(7 + number), 0.1f};
  call.recompute = way.recompute;
  call.router = way.router;
  call.own_rows = true;
  Tape tape;
  Transformer::Output out = model.forward(own.first(48), call);
  std::vector<LossTerm> terms = out.terms;
  terms.push_back(model.loss(out.hidden, own.subspan(1, 48)).term);
  double loss = 0;
  for (const LossTerm& term : terms) loss += static_cast<double>(term.value.value().data<float>()[0] * term.weight);
  tape.backward(terms);
  return loss;
}

// Of the last token, through a session.
Tensor written(const Transformer& model) {
  const std::vector<int32_t> ids = some_ids(21);
  Session session(model, {.sequences = 1, .capacity = 32, .type = DType::f32});
  session.feed(std::span(ids).first(20), 7);
  return session.feed(std::span(ids).subspan(20, 1));
}

}  // namespace

TEST_CASE("experts on ranks compute and learn as in one process") {
  Config c = two_mixtures();
  Way way;
  SUBCASE("softmax") {}
  SUBCASE("sigmoid, one expert a token, a dense layer and shared experts") {
    c.layers[0].experts = c.layers[0].top_k = 0;
    c.layers[1].router = RouterKind::sigmoid;
    c.layers[1].top_k = 1;
    c.layers[1].shared_experts = 1;
    c.layers[1].shared_gate = true;
  }
  SUBCASE("biases and GELU") {
    c.block.norm = norm_named("layer_norm");
    c.block.activation = activation_named("gelu");
    c.block.positions = positions_named("learned");
    c.block.biases = true;
  }
  SUBCASE("losses, noise and a capacity of routers") {
    way.router.noise = RouterNoise::gaussian;
    way.router.balance_weight = 0.1;
    way.router.z_weight = 0.01;
    way.router.capacity_factor = 1;
  }
  SUBCASE("blocks that run again") {
    way.recompute = recompute_plan("blocks");
  }
  SUBCASE("a rank that gets no rows") {
    way.two_alone = true;
  }
  SUBCASE("the same, with what runs again") {
    way.two_alone = true;
    way.recompute = recompute_plan("blocks");
  }
  for (const int size : {2, 4}) {
    CAPTURE(size);
    Transformer whole(c);
    initialize(whole, 3);
    if (way.two_alone) choose_two(whole);
    const Tensor expected_logits = written(whole);
    std::vector<double> losses;
    for (int number = 0; number < size; ++number) losses.push_back(train_on(whole, number, way));
    GradientCollector expected;
    whole.visit(expected);
    GradientsByName sums;
    std::mutex mutex;
    run_thread_ranks(size, [&](const std::shared_ptr<Communicator>& ranks) {
      Transformer model(c, by_experts(ranks));
      initialize(model, 3);
      if (way.two_alone) choose_two(model);
      CHECK(relative_error(written(model), expected_logits) < 1e-5);
      const int me = ranks->rank();
      const double loss = train_on(model, me, way);
      CHECK(loss == doctest::Approx(losses[static_cast<size_t>(me)]).epsilon(1e-5));
      GradientCollector own;
      model.visit(own);
      const std::lock_guard lock(mutex);
      for (const auto& [name, gradient] : own.all) {
        CAPTURE(name);
        const RankPart& part = own.parts.at(name);
        CHECK(part.here());
        if (part.holder >= 0) CHECK(part.holder == me);
        if (sums.contains(name))
          kernels::add(sums.at(name).view(), gradient.view());
        else
          sums[name] = gradient;
      }
    });
    CHECK(sums.size() == expected.all.size());
    for (const auto& [name, gradient] : sums) {
      CAPTURE(name);
      CHECK(relative_error(gradient, expected.all.at(name)) < 1e-4);
      if (way.two_alone) CHECK(name.find("experts.2.") == std::string::npos);
    }
  }
}

TEST_CASE("a router that is not finite on one rank ends the step on all") {
  run_thread_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) {
    Transformer model(two_mixtures(), by_experts(ranks));
    initialize(model, 3);
    struct Breaker : Visitor {
      void weight(const ParameterInfo&, std::shared_ptr<Weight>&) override {}
      void parameter(const ParameterInfo& info, Parameter& parameter) override {
        if (info.role == Role::router && info.layer == 1) parameter.value.data<float>()[3] = NAN;
      }
    } breaker;
    if (ranks->rank() == 1) model.visit(breaker);
    try {
      train_on(model, ranks->rank(), {});
      FAIL("not refused");
    } catch (const RouterError& error) {
      CHECK(std::string(error.what()).find("layer 1") != std::string::npos);
    }
  });
}

TEST_CASE("ranks load the experts that they own, and save the file of the whole") {
  const std::string path = "expert_parts_test.h5", again = "expert_parts_test_again.h5";
  Config c = two_mixtures();
  c.block.biases = true;
  Model model;
  model.transformer = std::make_unique<Transformer>(c);
  initialize(*model.transformer, 3);
  // An expert of the second owner and all else of the second layer.
  mask_some(*model.transformer,
            [](const ParameterInfo& info) { return info.layer == 1 && (info.expert < 0 || info.expert == 2); });
  const Tensor expected = written(*model.transformer);
  const WrittenFile file = save_model(path, model, true);
  const ModelSize size = size_of(*model.transformer);
  for (const bool defer : {false, true})
    run_thread_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) {
      const Model part = load_model(path, {.defer = defer}, nullptr, by_experts(ranks));
      CHECK(relative_error(written(*part.transformer), expected) < 1e-5);
      const ModelSize own = size_of(*part.transformer);
      CHECK(own.parameters == size.parameters);
      CHECK(own.nonzero_parameters == size.nonzero_parameters);
      CHECK(own.pruned == size.pruned);
      CHECK(own.prunable == size.prunable);
      CHECK(own.prunable_zeros == size.prunable_zeros);
      CHECK(own.active_parameters == size.active_parameters);
      if (defer) return;  // files are written of what was read
      CHECK(own.weight_bytes == size.weight_bytes);
      const WrittenFile other = save_model(again, part, true);
      CHECK(other.sha256 == file.sha256);  // on every rank
    });
  for (const std::string& name : {path, again}) std::remove(name.c_str());
}

TEST_CASE("a dense model becomes a mixture on ranks") {
  Transformer dense(small_config());
  initialize(dense, 3);
  MixtureShape shape;
  shape.experts = 4;
  shape.layers = {false, true};
  const auto whole = upcycle(dense, shape, 0.02, 5);
  const Tensor expected = written(*whole);
  run_thread_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) {
    Transformer own(small_config(), by_experts(ranks));
    initialize(own, 3);
    CHECK(relative_error(written(*upcycle(own, shape, 0.02, 5)), expected) < 1e-5);
  });
}

TEST_CASE("what ranks cannot do with experts is refused") {
  const auto refused = [](const Config& c, int ranks, const std::string& part) {
    try {
      expert().check(c, ranks);
      FAIL("not refused: " << part);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::usage);
      CHECK(std::string(error.what()).find(part) != std::string::npos);
    }
  };
  Config c = two_mixtures();
  expert().check(c, 4);
  expert().require_any(c, 4);
  expert().check(small_config(), 3);  // which has nothing to divide
  CHECK_THROWS_WITH_AS(expert().require_any(small_config(), 3), doctest::Contains("the model is dense"), Error);
  refused(c, 3, "3 ranks of an expert group do not divide 4 experts");
  c.layers[0].depth_fraction = 0.5;
  refused(c, 2, "routers of depth");
}
