#include "model/size.h"

#include <doctest/doctest.h>

#include <thread>

#include "base/error.h"
#include "model/store.h"
#include "model/upcycle.h"
#include "support/models.h"
#include "support/stopping.h"

using namespace hone;

namespace {

Config config_with_mixture() {
  Config config = test::small_config();
  config.block.biases = true;
  return with_mixtures(config, {.experts = 4, .top_k = 2, .shared_experts = 1, .layers = {true, false}});
}

struct Promises : Visitor {
  int matrices = 0, promised = 0;
  void weight(const ParameterInfo&, std::shared_ptr<Weight>& weight) override {
    ++matrices;
    promised += weight->parameter()->value.promised();
  }
  void parameter(const ParameterInfo&, Parameter&) override {}
};

}  // namespace

TEST_CASE("a shape has the size of the model that is made of it") {
  for (const Config& config : {test::small_config(), config_with_mixture()}) {
    Transformer model(config);
    initialize(model, 1);
    CHECK(size_of_shape(config).parameters == static_cast<double>(size_of(model).parameters));
    const StateShape shape{3, 40, DType::bf16, 2};
    CHECK(cache_bytes(config, shape) == static_cast<double>(model.make_state(shape).bytes()));
  }
}

TEST_CASE("a model of shapes alone can be counted, and takes no memory") {
  Config config = test::small_config();
  config.block.dim = 1 << 14;
  config.block.head_dim = 1 << 12;
  config.layers.assign(200, {4, 4, 1 << 16, "full"});  // 10^12 bytes and more
  const ShapesOnly shapes;
  Transformer model(config);
  initialize(model, 1);
  Promises promises;
  model.visit(promises);
  CHECK(promises.matrices > 800);
  CHECK(promises.promised == promises.matrices);
  const ModelSize size = size_of(model);
  CHECK(static_cast<double>(size.parameters) == size_of_shape(config).parameters);
  CHECK(size.sparsity() == 0);
}

TEST_CASE("a dense model becomes the shapes of a mixture") {
  Transformer dense(test::small_config());
  initialize(dense, 1);
  const ShapesOnly shapes;
  const auto mixture = upcycle(dense, {.experts = 4, .layers = {true, true}}, 0.1, 1);
  CHECK(mixture->config().layers[0].experts == 4);
  CHECK(size_of(*mixture).parameters > size_of(dense).parameters);
}

TEST_CASE("shapes alone are their thread's") {
  const ShapesOnly shapes;
  bool promised = true;
  std::thread([&] { promised = Tensor::empty({2, 3}).promised(); }).join();
  CHECK(!promised);
  CHECK(Tensor::empty({2, 3}).promised());
}

TEST_CASE("shapes alone end with their scope") {
  { const ShapesOnly shapes; }
  Transformer model(test::small_config());
  initialize(model, 1);
  Promises promises;
  model.visit(promises);
  CHECK(promises.promised == 0);
}

TEST_CASE("a cache that fits no memory is refused before it is taken") {
  Transformer model(test::small_config());
  try {
    model.make_state({1, int64_t{1} << 60, DType::f32});
    FAIL("nothing was thrown");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
    CHECK(std::string(error.what()).find("the key/value cache of") == 0);
  }
}

TEST_CASE("a signal ends the making, filling and running of a model") {
  Transformer model(test::small_config());
  initialize(model, 1);
  const test::Stopping stopping;
  CHECK_THROWS_AS(Transformer{test::small_config()}, Stopped);
  CHECK_THROWS_AS(initialize(model, 1), Stopped);
  CHECK_THROWS_AS(model.hidden(test::some_ids(4), model.call(Batch::whole(1, 4), DType::f32)), Stopped);
  CHECK_THROWS_AS(upcycle(model, {.experts = 2, .layers = {true, true}}, 0.1, 1), Stopped);
}
