// Training with exits and with layers that sequences pass by.
#include <doctest/doctest.h>

#include <cmath>

#include "lib/train/runs.h"
#include "measure/activations.h"
#include "model/exits.h"
#include "support/turns.h"
#include "train/objectives/exits.h"

using namespace hone;
using namespace hone::test;

namespace {

Config shape(int64_t dim = 32) {
  Config c = small_config();
  c.vocabulary = c.padded_vocabulary = 256;
  c.block.dim = dim;
  c.block.head_dim = 16;
  c.layers.assign(6, {2, 2, 2 * dim, "full"});
  set_exits(c, std::vector<int64_t>{2, 4});
  return c;
}

struct Trained {
  StepResult last;
  std::map<std::string, Tensor> parameters;
};

Trained trained(const char* plan, LayerDropout layer_dropout, ExitLossSettings exits, DType type,
                Config config = shape()) {
  Model model;
  model.transformer = std::make_unique<Transformer>(config);
  initialize(*model.transformer, 1);
  StepSettings s = settings(5).step;
  s.type = type;
  s.dropout = layer_dropout.most > 0 ? 0.1f : 0;
  s.layer_dropout = layer_dropout;
  s.objectives.exits = exits;
  s.recompute = recompute_plan(plan);
  const Corpus corpus = text();
  TextBatches sampler(BatchSampler(corpus, 32, 1));
  Trainer trainer(*model.transformer, sampler, s);
  Trained result;
  for (int64_t step = 0; step < 3; ++step) result.last = trainer.step(step);
  result.parameters = after(model);
  return result;
}

}  // namespace

TEST_CASE("exits and passed layers train to the same bits under every plan of recomputation") {
  int64_t first_turn = 0;
  for (const DType type : {DType::f32, DType::bf16}) {
    const Trained plain = trained("none", {0.5}, {0.5f, false}, type);
    int64_t turn = first_turn++;
    for (const char* plan : {"attention", "feed_forward", "blocks", "every:4"}) {
      if (!takes_turn(turn++, 2)) continue;  // under the sanitizers each plan in one of the types
      CAPTURE(plan);
      const Trained again = trained(plan, {0.5}, {0.5f, false}, type);
      CHECK(again.last.loss == plain.last.loss);
      CHECK(equal(plain.parameters, again.parameters));
    }
  }
}

TEST_CASE("each rule of skipping trains another model, and the one that grows begins without any") {
  const auto with = [](const char* dropout) { return trained("none", layer_dropout(dropout), {}, DType::f32); };
  const Trained exponential = with("0.5"), linear = with("0.5:linear"), uniform = with("0.5:uniform");
  CHECK(equal(exponential.parameters, with("0.5:exponential").parameters));
  CHECK_FALSE(equal(exponential.parameters, linear.parameters));
  CHECK_FALSE(equal(linear.parameters, uniform.parameters));
  CHECK_FALSE(equal(exponential.parameters, with("0.5:growing").parameters));
  CHECK(std::isfinite(uniform.last.loss));
}

TEST_CASE("losses of exits are terms with their share of the weight, beside the loss that is reported") {
  const Trained all = trained("none", {}, {0.6f, false}, DType::f32);
  CHECK(all.last.exit_losses.size() == 2);
  const auto loss_of = [&](const char* depth) {
    const auto& [sum, batches] = all.last.exit_losses.at(depth);
    return sum / static_cast<double>(batches);
  };
  // 1 + 2 = 3 against 1 + 2 + 3 + 4 = 10
  CHECK(all.last.terms.at("exit_2") == doctest::Approx(0.6 * 3 / 13 * loss_of("2")));
  CHECK(all.last.terms.at("exit_4") == doctest::Approx(0.6 * 10 / 13 * loss_of("4")));
  CHECK(all.last.loss == doctest::Approx(all.last.terms.at("next_token")));
  CHECK(all.last.router_loss == 0.0);
  const Trained turn = trained("none", {}, {0.6f, true}, DType::f32);
  CHECK(turn.last.exit_losses.size() == 1);  // the third step: the first exit again
  CHECK(turn.last.exit_losses.contains("2"));
  const Trained none = trained("none", {}, {}, DType::f32);
  CHECK(none.last.exit_losses.empty());
  CHECK_FALSE(equal(none.parameters, all.parameters));
}

TEST_CASE("exits take the turns that are asked for") {
  const std::vector<int64_t> exits = {2, 4, 6};
  CHECK(exits_trained({0.5f, false}, exits, 7) == exits);
  CHECK(exits_trained({0.5f, true}, exits, 0) == std::vector<int64_t>{2});
  CHECK(exits_trained({0.5f, true}, exits, 4) == std::vector<int64_t>{4});
  CHECK(exits_trained({0, false}, exits, 0).empty());
  CHECK(exits_trained({0.5f, true}, {}, 3).empty());
}
