#include "measure/speed.h"

#include <doctest/doctest.h>

#include <memory>

#include "base/error.h"
#include "weights/packed_weight.h"

using namespace hone;

namespace {

// 2 layers, dim 16, 4 heads of 4 with 2 for keys, ffn 24, vocabulary 40.
Config tiny(bool tied, PositionKind positions = positions_named("rotary")) {
  Config c;
  c.vocabulary = c.padded_vocabulary = 40;
  c.context = 32;
  c.tied = tied;
  c.block.dim = 16;
  c.block.head_dim = 4;
  c.block.positions = positions;
  c.layers.assign(2, {4, 2, 24, "full"});
  return c;
}

// Elements of a layer's matrices: qkv, output, up (two parts), down.
constexpr double layer_elements = 32 * 16 + 16 * 16 + 48 * 16 + 16 * 24;
constexpr double head_elements = 40 * 16;

}  // namespace

TEST_CASE("prefill: products of every token, the head of the last, attention of visible pairs") {
  for (const bool tied : {true, false}) {
    Transformer model(tiny(tied));
    const GenerationShape shape{.batch = 3, .prompt = 5, .generate = 0};
    const double attention = 2 * 4 * (5 * 6 / 2) * 16;  // layers, 2 products of 2 flops, pairs, heads * head_dim
    CHECK(prefill_flops(model, shape) == 2 * 2 * layer_elements * 15 + 2 * head_elements * 3 + 3 * attention);
    // Positions 6, 7 and 8, whatever the batch.
    CHECK(decode_flops(model, {.batch = 3, .prompt = 5, .generate = 3}) ==
          2 * (2 * layer_elements + head_elements) + 2 * 4 * 7 * 16);
    CHECK(training_flops(model, 3, 5) == 3 * (2 * (2 * layer_elements + head_elements) * 15 + 3 * attention));
  }
}

TEST_CASE("a step reads every matrix once, rows of an embedding that is not the head, and the cache") {
  const double norms = 4 * (2 * 2 + 1) * 16;
  const GenerationShape shape{.batch = 2, .prompt = 5, .generate = 3, .type = DType::f32};
  // Keys and values of 6, 7 and 8 positions, 2 heads of 4, 2 layers, 2 sequences.
  const double cache = 2 * 2 * 2 * 8 * 4 * (6 + 7 + 8) / 3.0;
  Transformer tied(tiny(true)), untied(tiny(false)), learned(tiny(true, positions_named("learned")));
  const double weights = 4 * (2 * layer_elements + head_elements);
  CHECK(decode_step_bytes(tied, shape) == weights + norms + cache);
  CHECK(decode_step_bytes(untied, shape) == weights + norms + cache + 4 * 16);
  CHECK(decode_step_bytes(learned, shape) == weights + norms + cache + 4 * 16);
}

TEST_CASE("of a layer with a router of depth the fraction counts that goes through, and all of the router") {
  Config config = tiny(true);
  config.layers[1].depth_fraction = 0.5;
  Transformer model(config);
  const GenerationShape shape{.batch = 3, .prompt = 6, .generate = 2, .type = DType::f32};
  constexpr double router = 16 + 32 * 16 + 32, attention = 4 * (6 * 7 / 2 + 3 * 4 / 2) * 16;
  CHECK(prefill_flops(model, shape) ==
        2 * (1.5 * layer_elements + router) * 18 + 2 * head_elements * 3 + 3 * attention);
  CHECK(decode_flops(model, shape) == 2 * (1.5 * layer_elements + router + head_elements) + 4 * 16 * (7.5 + 0.5 * 4.5));
  // The weights of the second layer are read where any of the sequences goes through.
  const double any = 1 - 0.5 * 0.5 * 0.5, read = 4 * (layer_elements * (1 + any) + head_elements + router),
               norms = 4 * (2 * 2 + 2) * 16 + 4 * (32 + 1);
  const double cache = 3 * 2 * 8 * 4 * (7 + 8 + 0.5 * (4 + 5)) / 2.0;
  CHECK(decode_step_bytes(model, shape) == doctest::Approx(read + norms + cache).epsilon(1e-9));
  initialize(model, 1);
  const GenerationTimes times = time_generation(model, shape, 1);
  CHECK(sum(times.depth).tokens == 3 * 8);
  CHECK(sum(times.depth).compared == 0);
}

TEST_CASE("generation: one time for the prompt and one for each step") {
  for (const int64_t batch : {1, 3}) {
    Transformer model(tiny(true));
    initialize(model, 1);
    const GenerationTimes times =
        time_generation(model, {.batch = batch, .prompt = 9, .generate = 4, .type = DType::f32}, 1);
    CHECK(times.prefill_seconds > 0);
    REQUIRE(times.step_seconds.size() == 4);
    double sum = 0;
    for (const double seconds : times.step_seconds) {
      CHECK(seconds > 0);
      sum += seconds;
    }
    CHECK(times.decode_seconds() == doctest::Approx(sum));
    CHECK(time_generation(model, {.batch = batch, .prompt = 9, .generate = 0}, 1).step_seconds.empty());
  }
}

TEST_CASE("learned positions end; rotary ones do not") {
  require_positions(tiny(true), 1000, "a.h5");
  const Config learned = tiny(true, positions_named("learned"));
  require_positions(learned, 32, "a.h5");
  try {
    require_positions(learned, 33, "a.h5");
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
    CHECK(std::string(error.what()).find("'a.h5' has 32 learned positions") != std::string::npos);
  }
}

TEST_CASE("forms: the one of most elements first, embeddings left out") {
  Transformer model(tiny(true));
  initialize(model, 1);
  CHECK(weight_forms(model) == "dense f32");
  struct Packer : Visitor {
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      if (info.role == Role::attention_output) weight = pack_bf16(weight->to_dense(), {});
    }
    void parameter(const ParameterInfo&, Parameter&) override {}
  } packer;
  model.visit(packer);
  CHECK(weight_forms(model) == "dense f32 + panels bf16");
}
