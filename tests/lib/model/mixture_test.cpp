// Models with mixtures of experts: decoding, counting, configuration, and dense models turned into mixtures.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "model/store.h"
#include "model/upcycle.h"
#include "support/check.h"
#include "support/isa.h"
#include "support/models.h"
#include "weights/packed_weight.h"

using namespace hone;
using namespace hone::test;

namespace {

Config mixture_config(RouterKind router, int64_t top_k, int64_t shared) {
  Config c = small_config();
  for (LayerBlueprint& layer : c.layers) {
    layer.experts = 6;
    layer.top_k = top_k;
    layer.shared_experts = shared;
    layer.router = router;
    layer.ffn = 32;
  }
  c.layers[0] = small_config().layers[0];  // the other layer stays dense
  return c;
}

// Routers whose scores differ: at their initial size all experts are nearly equal.
void spread_routers(Transformer& model) {
  struct Spreader : Visitor {
    void weight(const ParameterInfo&, std::shared_ptr<Weight>&) override {}
    void parameter(const ParameterInfo& info, Parameter& parameter) override {
      if (info.name.ends_with("router.weight"))
        for (float& w : parameter.value.span<float>()) w *= 20;
    }
  } spreader;
  model.visit(spreader);
}

Tensor hidden(const Transformer& model, const std::vector<int32_t>& ids, State* state = nullptr,
              DType type = DType::f32) {
  const Batch batch({{0, state ? state->length(0) : 0, static_cast<int64_t>(ids.size())}});
  return model.hidden(ids, model.call(batch, type), state).value().to(DType::f32);
}

MixtureShape shape_of(int64_t top_k, RouterKind router, int64_t shared, bool gate = false) {
  return {4, top_k, shared, router, {true, true}, gate};
}

}  // namespace

TEST_CASE("a mixture decodes token by token what one pass gives") {
  at_every_isa([] {
    for (const RouterKind router : {RouterKind::softmax, RouterKind::sigmoid})
      for (const int64_t k : {1, 2}) {
        Transformer model(mixture_config(router, k, k - 1));
        initialize(model, 3);
        spread_routers(model);
        const std::vector<int32_t> ids = some_ids(60);
        const Tensor expected = hidden(model, ids);
        State state = model.make_state({1, 60, DType::f32});
        for (int64_t t = 0; t < 60; ++t)
          CHECK(relative_error(hidden(model, {ids[static_cast<size_t>(t)]}, &state), expected.rows(t, 1)) < 1e-4);
      }
  });
}

TEST_CASE("decoding takes no memory from the system in the steady state") {
  Transformer model(mixture_config(RouterKind::softmax, 2, 1));
  initialize(model, 3);
  State state = model.make_state({1, 60, DType::bf16});
  const std::vector<int32_t> ids = some_ids(60);
  for (int64_t t = 0; t < 30; ++t) hidden(model, {ids[static_cast<size_t>(t)]}, &state, DType::bf16);
  const size_t before = pool_system_allocations();
  for (int64_t t = 30; t < 60; ++t) hidden(model, {ids[static_cast<size_t>(t)]}, &state, DType::bf16);
  CHECK(pool_system_allocations() <= before + 2);  // an expert's panels, where a later token was its first
}

TEST_CASE("reports: every token's choices, by layer; dense layers have none") {
  Transformer model(mixture_config(RouterKind::softmax, 2, 0));
  initialize(model, 3);
  std::vector<LayerRouting> report;
  Call call = model.call(Batch::whole(1, 40), DType::f32);
  call.trace.routing = &report;
  model.hidden(some_ids(40), call);
  REQUIRE(report.size() == 2);
  CHECK(report[0].load.empty());
  CHECK(report[1].tokens == 40);
  CHECK(std::accumulate(report[1].load.begin(), report[1].load.end(), int64_t{0}) == 80);
  CHECK(report[1].mean_load() == doctest::Approx(80.0 / 6));
  CHECK(report[1].largest_over_mean() >= 1);
  CHECK(report[1].mean_entropy() > 0);
  CHECK(report[1].mean_entropy() < std::log(6.0) + 1e-6);
  CHECK(report[1].dropped == 0);
}

TEST_CASE("the balance loss of a step's later batches counts the choices of the earlier ones") {
  Transformer model(mixture_config(RouterKind::softmax, 1, 0));
  initialize(model, 3);
  spread_routers(model);
  const std::vector<int32_t> first = some_ids(40), second(40, 7);
  const auto loss_of = [&](const std::vector<int32_t>& ids, ModelRouting& earlier) {
    const Tape tape;
    ModelRouting report;
    Call call = model.call(Batch::whole(1, 40), DType::f32);
    call.router.earlier = &earlier;
    call.trace.routing = &report;
    call.router.balance_weight = 0.1;
    const Transformer::Output out = model.forward(ids, call);
    add(earlier, report);
    REQUIRE(out.terms.size() == 1);
    CHECK(out.terms[0].name == "balance");
    return static_cast<double>(out.terms[0].value.value().data<float>()[0]);
  };
  ModelRouting report, of_second;
  const double once = loss_of(first, report);
  CHECK(loss_of(first, report) == doctest::Approx(once).epsilon(1e-5));  // the same shares again
  CHECK(loss_of(second, report) != doctest::Approx(loss_of(second, of_second)).epsilon(1e-3));
}

TEST_CASE("active parameters count the experts that a token goes through") {
  Transformer dense(small_config()), mixture(mixture_config(RouterKind::softmax, 2, 1));
  initialize(mixture, 1);
  const ModelSize size = size_of(mixture);
  const int64_t expert = 3 * 32 * 48;
  CHECK(size.parameters - size.active_parameters == 4 * expert);
  initialize(dense, 1);
  CHECK(size_of(dense).parameters == size_of(dense).active_parameters);
}

TEST_CASE("configurations of mixtures survive JSON; dense ones say nothing of experts") {
  const Config c = mixture_config(RouterKind::sigmoid, 3, 2);
  CHECK(config_from_json(to_json(c), "x") == c);
  CHECK(to_json(c)["layers"][1]["experts"] == 6);
  CHECK_FALSE(to_json(c)["layers"][0].contains("experts"));
  for (const auto& [name, value] : std::vector<std::pair<std::string, nlohmann::json>>{
           {"top_k", 7}, {"top_k", 0}, {"experts", 0}, {"router", "hash"}}) {
    CAPTURE(name);
    nlohmann::json json = to_json(c);
    json["layers"][1][name] = value;
    CHECK_THROWS_AS(config_from_json(json, "x"), Error);
  }
}

TEST_CASE("a dense model turned into a mixture computes the same, but for its noise") {
  int64_t turn = 0;  // eight an instruction set: under the sanitizers every third, and others at the next
  at_every_isa([&] {
    for (const bool biases : {false, true})
      for (const RouterKind router : {RouterKind::softmax, RouterKind::sigmoid})
        for (const int64_t k : {1, 2}) {
          if (!takes_turn(turn++, 3)) continue;
          CAPTURE(static_cast<int>(router));
          CAPTURE(k);
          Config config = small_config();
          config.block.biases = biases;
          config.block.activation = biases ? activation_named("gelu") : activation_named("swiglu");
          Transformer dense(config);
          initialize(dense, 3, 0.02);
          const std::vector<int32_t> ids = some_ids(50);
          const Tensor expected = hidden(dense, ids);
          // With top-1 the gate is what an even router gives only nearly.
          const double tolerance = k == 1 ? 0.05 : 1e-4;
          CHECK(relative_error(hidden(*upcycle(dense, shape_of(k, router, 0), 0, 7), ids), expected) < tolerance);
          const Tensor noisy = hidden(*upcycle(dense, shape_of(k, router, 0), 0.02, 7), ids);
          CHECK(relative_error(noisy, expected) < tolerance + 0.02);
          CHECK(relative_error(noisy, expected) > 1e-6);
          // Shared experts hold the dense feed-forward itself, whatever is routed and noisy beside it.
          for (const int64_t shared : {1, 3})
            for (const bool gate : {false, true})
              CHECK(relative_error(hidden(*upcycle(dense, shape_of(k, router, shared, gate), 0.3, 7), ids), expected) <
                    1e-5);
        }
  });
}

TEST_CASE("turning into a mixture keeps masks, and refuses mixtures and packed weights") {
  Config config = small_config();
  for (LayerBlueprint& layer : config.layers) layer.ffn = 44;  // rows of bits that end within a byte
  Transformer dense(config);
  initialize(dense, 3);
  struct Masker : Visitor {
    Random random{8, "masks"};
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      if (info.name.find("feed_forward") == std::string::npos) return;
      const int64_t cols = weight->cols();
      const Bitmask mask = Bitmask::zeros(weight->rows(), cols);
      for (int64_t i = 0; i < weight->rows() * cols; ++i)
        if (random.below(2)) mask.set(i / cols, i % cols);
      weight->set_mask(mask);
    }
    void parameter(const ParameterInfo&, Parameter&) override {}
  } masker;
  dense.visit(masker);
  for (const int64_t shared : {0, 1, 3}) {
    CAPTURE(shared);
    const auto mixture = upcycle(dense, shape_of(2, RouterKind::softmax, shared), 0.02, 1);
    struct Checker : Visitor {
      std::map<std::string, std::shared_ptr<Weight>> dense;
      int masked = 0;
      // Kept where the dense one keeps, of each of the `copies` feed-forwards; what is not kept is 0.
      void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
        if (info.name.find("feed_forward") == std::string::npos) return;
        const size_t end = info.name.rfind('.', info.name.rfind('.') - 1), begin = info.name.find("feed_forward") + 12;
        const Weight& from = *dense.at(info.name.substr(0, begin) + info.name.substr(end));
        REQUIRE(weight->mask());
        CHECK(weight->mask().count() ==
              from.mask().count() * (weight->rows() * weight->cols() / (from.rows() * from.cols())));
        const Tensor values = weight->to_dense();
        const int64_t cols = weight->cols();
        const Bitmask mask = weight->mask();
        for (int64_t i = 0; i < values.size(); ++i)
          if (!mask.at(i / cols, i % cols)) REQUIRE(values.data<float>()[i] == 0.f);
        ++masked;
      }
      void parameter(const ParameterInfo&, Parameter&) override {}
    } checker;
    struct Collector : Visitor {
      std::map<std::string, std::shared_ptr<Weight>>* all = nullptr;
      void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override { (*all)[info.name] = weight; }
      void parameter(const ParameterInfo&, Parameter&) override {}
    } collector;
    collector.all = &checker.dense;
    dense.visit(collector);
    mixture->visit(checker);
    CHECK(checker.masked == (shared ? 20 : 16));
    if (shared) CHECK(relative_error(hidden(*mixture, some_ids(20)), hidden(dense, some_ids(20))) < 1e-5);
  }
  const auto mixture = upcycle(dense, shape_of(2, RouterKind::softmax, 0), 0.02, 1);
  CHECK_THROWS_AS(upcycle(*mixture, shape_of(2, RouterKind::softmax, 0), 0, 1), Error);
  struct Packer : Visitor {
    void weight(const ParameterInfo&, std::shared_ptr<Weight>& weight) override {
      weight = pack_bf16(weight->to_dense(), {});
    }
    void parameter(const ParameterInfo&, Parameter&) override {}
  } packer;
  dense.visit(packer);
  CHECK_THROWS_AS(upcycle(dense, shape_of(2, RouterKind::softmax, 0), 0, 1), Error);
}

TEST_CASE("a model file holds a mixture, its selection bias included; experts may be packed") {
  const std::string path = "mixture_test.h5";
  Model model;
  model.transformer = std::make_unique<Transformer>(mixture_config(RouterKind::sigmoid, 2, 1));
  initialize(*model.transformer, 11);
  model.transformer->blocks()[1].feed_forward->balance({9, 0, 0, 0, 0, 0}, 0.25);
  const std::vector<int32_t> ids = some_ids(30);
  const Tensor expected = hidden(*model.transformer, ids);
  save_model(path, model, true);
  Model loaded = load_model(path);
  CHECK(relative_error(hidden(*loaded.transformer, ids), expected) == 0.0);
  struct Packer : Visitor {
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      if (info.name.find(".experts.") != std::string::npos) weight = pack_bf16(weight->to_dense(), {});
    }
    void parameter(const ParameterInfo& info, Parameter& parameter) override {
      if (info.name.ends_with("router.bias")) CHECK(parameter.value.data<float>()[0] == -0.25f);
      if (info.name.ends_with("router.bias")) CHECK(parameter.value.data<float>()[3] == 0.25f);
    }
  } packer;
  loaded.transformer->visit(packer);
  CHECK(relative_error(hidden(*loaded.transformer, ids), expected) < 0.05);
  std::remove(path.c_str());
}

TEST_CASE("a router that is not finite is named with its layer") {
  Transformer model(mixture_config(RouterKind::softmax, 2, 0));
  initialize(model, 3);
  struct Breaker : Visitor {
    void weight(const ParameterInfo&, std::shared_ptr<Weight>&) override {}
    void parameter(const ParameterInfo& info, Parameter& parameter) override {
      if (info.name.ends_with("router.weight")) parameter.value.data<float>()[0] = NAN;
    }
  } breaker;
  model.visit(breaker);
  try {
    hidden(model, some_ids(5));
    FAIL("routed");
  } catch (const RouterError& error) {
    CHECK(std::string(error.what()).find("layer 1") != std::string::npos);
  }
}
