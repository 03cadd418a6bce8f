// Half blocks under a tape, of layers that have both halves and of such that lack one.
#include "model/half_blocks.h"

#include <doctest/doctest.h>

#include "model/transformer.h"
#include "support/check.h"
#include "support/models.h"

using namespace hone;
using namespace hone::test;

namespace {

// Halves 0, 1, 2 and 5.
Config config_with_gaps() {
  Config config = small_config();
  config.layers = {{2, 2, 64, "full"}, {2, 2, 0, "full"}, {0, 0, 64, "full"}};
  return config;
}

Call call_with(const Transformer& model, const std::string& plan) {
  Call call = model.call(Batch::whole(1, 24), DType::f32);
  call.recompute = recompute_plan(plan);
  return call;
}

const Parameter& first_gain(const Block& block) {
  return *(block.mixer ? block.mixer_norm : block.feed_forward_norm).gain;
}

// Notes who is done, and whether the gradients that there are then are those of the layers from that one on.
struct Listener : BackwardObserver {
  explicit Listener(const Transformer& of) : model(of) {}
  void done(int64_t layer) override {
    layers.push_back(layer);
    for (int64_t l = 0; l < model.layers(); ++l)
      in_order = in_order && first_gain(model.blocks()[static_cast<size_t>(l)]).has_grad == (l >= layer);
  }
  const Transformer& model;
  std::vector<int64_t> layers;
  bool in_order = true;
};

}  // namespace

TEST_CASE("whether the last half that there is runs again") {
  Transformer model(config_with_gaps());
  const HalfBlocks halves(model.blocks());
  const auto ends = [&](const char* plan) {
    const Call call = call_with(model, plan);
    CHECK(!halves.end_again(0, call));
    return std::vector<bool>{halves.end_again(1, call), halves.end_again(2, call), halves.end_again(3, call)};
  };
  CHECK(ends("none") == std::vector<bool>{false, false, false});
  CHECK(ends("attention") == std::vector<bool>{false, true, false});
  CHECK(ends("feed_forward") == std::vector<bool>{true, false, true});
  CHECK(ends("blocks") == std::vector<bool>{true, true, true});
  CHECK(ends("every:2") == std::vector<bool>{true, true, true});
}

TEST_CASE("a tape changes no value, and tells when the gradients of layers are final") {
  const std::vector<int32_t> ids = some_ids(24);
  for (const char* plan : {"none", "attention", "feed_forward", "blocks", "every:2"}) {
    CAPTURE(plan);
    Transformer model(config_with_gaps());
    initialize(model, 1, 0.2);
    Call call = call_with(model, plan);
    const Tensor expected = model.hidden(ids, call).value();
    Listener listener(model);
    call.trace.backward = &listener;
    Tape tape;
    const Var hidden = model.hidden(ids, call);
    CHECK(relative_error(hidden.value(), expected) == 0);
    const ops::TokenLosses losses = model.loss(hidden, ids);
    tape.backward(std::span(&losses.term, 1));
    CHECK(listener.layers ==
          (std::string(plan) == "every:2" ? std::vector<int64_t>{2, 0} : std::vector<int64_t>{2, 1, 0}));
    CHECK(listener.in_order);
  }
}
