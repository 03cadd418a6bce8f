// Models whose matrices ranks divide, as threads here: what they compute is what one that has the whole does.
#include <doctest/doctest.h>

#include <cstdio>

#include "base/error.h"
#include "comm/thread_ranks.h"
#include "lib/model/some_masks.h"
#include "model/division.h"
#include "model/session.h"
#include "model/store.h"
#include "support/check.h"
#include "support/models.h"
#include "weights/packed_weight.h"

using namespace hone;
using namespace hone::test;

namespace {

const DivisionKind& tensor() {
  return division_named("tensor");
}

ModelRanks by_matrices(const std::shared_ptr<Communicator>& ranks) {
  return {tensor(), ranks};
}

struct Gradients : Visitor {
  std::map<std::string, std::pair<Tensor, RankPart>> all;
  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    parameter(info, *weight->parameter());
  }
  void parameter(const ParameterInfo& info, Parameter& parameter) override {
    if (parameter.has_grad) all[info.name] = {parameter.grad.clone(), info.part};
  }
};

struct Computed {
  double loss = 0;
  Tensor logits;  // of the last token, through a session
  std::map<std::string, std::pair<Tensor, RankPart>> gradients;
};

Computed compute(Transformer& model, const RecomputePlan& recompute = {}) {
  const std::vector<int32_t> ids = some_ids(66);
  const std::span<const int32_t> all(ids);
  Computed c;
  {
    Call call = model.call(Batch::whole(2, 32), DType::f32);
    call.noise = {7, 0.1f};
    call.recompute = recompute;
    call.best_pass = true;
    call.exits = {1};
    if (!model.blocks()[0].exits()) call.exits.clear();
    Tape tape;
    Transformer::Output out = model.forward(all.first(64), call);
    std::vector<LossTerm> terms = out.terms;
    terms.push_back(model.loss(out.hidden, all.subspan(1, 64)).term);
    for (const ExitOutput& exit : out.exits) terms.push_back(model.loss(exit.hidden, all.subspan(1, 64), {0.5f}).term);
    for (const LossTerm& term : terms) c.loss += static_cast<double>(term.value.value().data<float>()[0] * term.weight);
    tape.backward(terms);
    Gradients gradients;
    model.visit(gradients);
    c.gradients = gradients.all;
  }
  Session session(model, {.sequences = 1, .capacity = 32, .type = DType::f32});
  session.feed(all.first(20), 7);
  c.logits = session.feed(all.subspan(20, 1));
  return c;
}

Config four_heads() {
  Config c = small_config();
  c.padded_vocabulary = 64;
  c.layers = {{4, 2, 96, "full"}, {2, 2, 64, "full"}};
  return c;
}

}  // namespace

TEST_CASE("a model in parts computes as the whole") {
  Config c = four_heads();
  RecomputePlan recompute;
  SUBCASE("tied") {}
  SUBCASE("untied, with a soft cap") {
    c.tied = false;
    c.logit_softcap = 5;
  }
  SUBCASE("GPT-2's kind") {
    c.block.norm = norm_named("layer_norm");
    c.block.activation = activation_named("gelu");
    c.block.positions = positions_named("learned");
    c.block.biases = true;
  }
  SUBCASE("norms of queries and keys, and windows") {
    for (LayerBlueprint& layer : c.layers) {
      layer.qk_norm = true;
      layer.attention = "window:16:2";
    }
  }
  SUBCASE("scores that tell the layer's heads apart") {
    c.block.positions = positions_named("none");
    c.layers[1] = {6, 2, 64, "full"};
    for (LayerBlueprint& layer : c.layers) layer.score = "alibi";
  }
  SUBCASE("short convolutions in place of attention") {
    c.block.biases = true;
    set_attention(c, "conv:4,full");
  }
  SUBCASE("halves beside each other") {
    c.block.parallel = true;
  }
  SUBCASE("an exit, and a router of depth") {
    c.layers[0].exit = true;
    c.layers[1].depth_fraction = 0.5;
  }
  SUBCASE("blocks that run again") {
    recompute = recompute_plan("blocks");
  }
  Transformer whole(c);
  initialize(whole, 3);
  const Computed expected = compute(whole, recompute);
  run_thread_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) {
    Transformer part(c, by_matrices(ranks));
    initialize(part, 3);
    const Computed own = compute(part, recompute);
    CHECK(own.loss == doctest::Approx(expected.loss).epsilon(1e-5));
    CHECK(relative_error(own.logits, expected.logits) < 1e-5);
    CHECK(own.gradients.size() == expected.gradients.size());
    for (const auto& [name, gradient] : own.gradients) {
      CAPTURE(name);
      const auto& [values, of] = gradient;
      CHECK(relative_error(values, take_part(expected.gradients.at(name).first, of)) < 1e-4);
    }
  });
}

TEST_CASE("ranks load their parts, and save the file of the whole") {
  const std::string path = "parts_test.h5", again = "parts_test_again.h5";
  Model model;
  model.transformer = std::make_unique<Transformer>(four_heads());
  initialize(*model.transformer, 3);
  mask_some(*model.transformer, [](const ParameterInfo& info) { return info.layer == 1; });
  const Computed expected = compute(*model.transformer);
  const WrittenFile written = save_model(path, model, true);
  const ModelSize size = size_of(*model.transformer);
  run_thread_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) {
    const Model part = load_model(path, {}, nullptr, by_matrices(ranks));
    const Computed own = compute(*part.transformer);
    CHECK(own.loss == doctest::Approx(expected.loss).epsilon(1e-5));
    CHECK(relative_error(own.logits, expected.logits) < 1e-5);
    const ModelSize own_size = size_of(*part.transformer);
    CHECK(own_size.parameters == size.parameters);
    CHECK(own_size.nonzero_parameters == size.nonzero_parameters);
    CHECK(own_size.pruned == size.pruned);
    CHECK(own_size.prunable == size.prunable);
    CHECK(own_size.active_parameters == size.active_parameters);
    const WrittenFile other = save_model(again, part, true);
    CHECK(other.sha256 == written.sha256);  // on every rank
  });
  for (const std::string& file : {path, again}) std::remove(file.c_str());
}

TEST_CASE("what ranks do not divide is refused") {
  const auto refused = [](const Config& c, int ranks, const std::string& part) {
    try {
      tensor().check(c, ranks);
      FAIL("not refused: " << part);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::usage);
      CHECK(std::string(error.what()).find(part) != std::string::npos);
    }
  };
  Config c = four_heads();
  refused(c, 3, "3 ranks of a tensor group do not divide 4 heads");
  refused(c, 4, "do not divide 2 key/value heads");
  c.layers = {{4, 4, 98, "full"}};
  refused(c, 4, "do not divide 98 hidden rows");
  c.layers = {{4, 4, 96, "full"}};
  c.padded_vocabulary = 50;
  refused(c, 4, "do not divide 50 tokens");
  c.layers[0].experts = 4;
  c.layers[0].top_k = 1;
  refused(c, 2, "experts");
  tensor().check(four_heads(), 2);
  c = four_heads();
  for (LayerBlueprint& layer : c.layers) layer.qk_norm = true;
  tensor().check(c, 2);
  c.layers.back().qk_norm_whole = true;
  refused(c, 2, "over all heads");
}

TEST_CASE("two models are divided at the same tokens, or not both") {
  Config longer = four_heads();
  longer.padded_vocabulary += 4;
  run_thread_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) {
    by_matrices(ranks).check_beside(four_heads(), four_heads());
    CHECK_THROWS_WITH_AS(by_matrices(ranks).check_beside(longer, four_heads()), doctest::Contains("is padded to"),
                         Error);
    // Ranks with experts between them have the whole vocabulary.
    ModelRanks(division_named("expert"), ranks).check_beside(longer, four_heads());
  });
  ModelRanks().check_beside(longer, four_heads());
}

TEST_CASE("ranks with different files of one name are refused") {
  const std::string paths[] = {"parts_test_0.h5", "parts_test_1.h5"};
  for (uint64_t seed = 0; seed < 2; ++seed) {
    Model model;
    model.transformer = std::make_unique<Transformer>(four_heads());
    initialize(*model.transformer, seed);
    save_model(paths[seed], model, true);
  }
  run_thread_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) {
    CHECK_NOTHROW(load_model(paths[0], {}, nullptr, by_matrices(ranks)));
    CHECK_THROWS_AS(load_model(paths[static_cast<size_t>(ranks->rank())], {}, nullptr, by_matrices(ranks)), Error);
  });
  for (const std::string& path : paths) std::remove(path.c_str());
}
