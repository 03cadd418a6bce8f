#include "measure/footprint.h"

#include <doctest/doctest.h>

#include <cmath>

#include "base/error.h"

using namespace hone;

namespace {

// One layer of dim 64, 4 heads of 16 and swiglu of 128; 256 tokens, tied.
Config config() {
  Config c;
  c.context = 32;
  c.block.dim = 64;
  c.block.head_dim = 16;
  c.layers = {{4, 2, 128, "full"}};
  return c;
}

constexpr double matrices = 64 * (64 + 2 * 32) + 64 * 64 + 3 * 64 * 128, others = 256 * 64 + 3 * 64;

}  // namespace

TEST_CASE("training: masters, copies for bf16, what the optimizer keeps, and what backward needs") {
  const Footprint f32 = training_footprint(config(), {8, 32, DType::f32}, 12 * (matrices + others));
  CHECK(f32.parameters == 4 * (matrices + others));
  CHECK(f32.optimizer == 12 * (matrices + others));
  // Two sums of the stream; two norms with what they divided by; q and k and v, attention, gate and up and their
  // product; log sums of 4 heads. The most at the head: the last norm, its gradient and 256 logits a row.
  const auto row = [](double unit) {
    return 4 * 2 * 64 + 2 * (unit * 64 + 2 * 4) + unit * ((64 + 32 + 32) + 64 + 3 * 128) + 4 * 4 +
           (4 * 64 + unit * 64 + 2 * 4 + unit * (64 + 256));
  };
  CHECK(f32.activations == 8 * 32 * row(4));
  const Footprint bf16 = training_footprint(config(), {8, 32, DType::bf16}, 0);
  CHECK(bf16.parameters == 4 * (matrices + others) + 4 * (matrices + 256 * 64));  // the head is the embedding
  CHECK(bf16.activations == 8 * 32 * row(2));
}

TEST_CASE("training of mixtures: as many rows of experts as are chosen, at most") {
  Config mixture = config();
  mixture.layers[0].experts = 8;
  mixture.layers[0].top_k = 2;
  const auto bytes = [&](double capacity) { return activation_bytes(mixture, {8, 32, DType::f32, capacity}); };
  CHECK(bytes(1.5) == bytes(0));
  CHECK(bytes(0.5) < bytes(0));
  CHECK(bytes(0.25) < bytes(0.5));
  const double none_shared = bytes(0);
  mixture.layers[0].shared_experts = 1;
  const double shared = bytes(0);
  CHECK(shared > none_shared);
  mixture.layers[0].shared_gate = true;
  CHECK(bytes(0) > shared);
}

TEST_CASE("training of mixtures on ranks: rows of experts on their way, where no product takes as much") {
  Config mixture = config();
  mixture.layers[0].experts = 8;
  mixture.layers[0].top_k = 4;
  const auto bytes = [&](int64_t ranks) {
    TrainingShape shape = {8, 32, DType::f32};
    shape.expert_ranks = ranks;
    return activation_bytes(mixture, shape);
  };
  const double row = 4.0 * 4 * 8 * 32 * 64;
  mixture.layers[0].ffn = 32;
  CHECK(bytes(2) > bytes(1));
  CHECK(bytes(2) <= bytes(1) + 2 * row);
  CHECK(bytes(4) == bytes(2));
  mixture.layers[0].ffn = 512;
  CHECK(bytes(2) == bytes(1));
}

TEST_CASE("what is computed again is not kept, and costs products") {
  Config deep = config();
  deep.layers.assign(12, deep.layers[0]);
  const auto of = [&](const char* plan) {
    const TrainingShape shape = {8, 32, DType::bf16, 0, recompute_plan(plan)};
    return std::pair(activation_bytes(deep, shape), recomputed_flops(deep, shape));
  };
  CHECK(of("none").second == 0);
  CHECK(of("feed_forward").first < of("none").first);
  CHECK(of("blocks").first < of("feed_forward").first);
  CHECK(of("blocks").first < of("attention").first);
  CHECK(of("blocks").second == of("attention").second + of("feed_forward").second + 12 * 8 * 32 * 2 * 64 * 64);
  CHECK(of("every:12").first > of("every:3").first);
}

TEST_CASE("generation: cache and one chunk of rows") {
  const Footprint f = generation_footprint(config(), 3, 100, 10, DType::bf16);
  CHECK(f.parameters == 0);
  CHECK(f.cache == 3 * 2 * 100 * 2 * 16 * 2);
  CHECK(f.activations == 3 * 10 * (4 + 4 * 64 + 2 * 128));
}

TEST_CASE("layers of encoders count: parameters, what training keeps, and their width in generation") {
  Config plain = config(), layered = config();
  plain.encoders = {"patches:4x4"};
  layered.encoders = {"vit:4x4:2"};
  const TrainingShape shape = {8, 32, DType::f32};
  const Footprint without = training_footprint(plain, shape, 0), with = training_footprint(layered, shape, 0);
  // Two layers of 4 heads, keys and values of as many, and swiglu of 4 * 64; two norms a layer and the last.
  CHECK(with.parameters - without.parameters == 4 * (2 * (4 * 64 * 64 + 3 * 64 * 256 + 2 * 64) + 64));
  // Of each: two sums of the stream, two norms, q and k and v, attention, log sums, gate and up and their product.
  CHECK(with.activations - without.activations ==
        8 * 32 * 2 * (4 * 2 * 64 + 2 * (4 * 64 + 2 * 4) + 4 * (3 * 64 + 64 + 3 * 256) + 4 * 4));
  CHECK(without.activations == training_footprint(config(), shape, 0).activations);
  CHECK(generation_footprint(layered, 3, 100, 10, DType::bf16).activations == 3 * 10 * (4 + 4 * 64 + 2 * 256));
}

TEST_CASE("calibration: the text between two blocks, and the weights") {
  const Footprint f = calibration_footprint(config(), 1000, DType::f32, 5e6);
  CHECK(f.parameters == 5e6);
  CHECK(f.activations == 1000 * (4 + 8 * 64));
}

TEST_CASE("no size is too large to be refused") {
  constexpr int64_t huge = INT64_MAX;
  for (const Footprint& f :
       {training_footprint(config(), {huge, huge}, 0), generation_footprint(config(), huge, huge, huge, DType::f32)}) {
    CHECK(std::isfinite(f.total()));
    CHECK(f.total() > 1e30);
    CHECK_THROWS_AS(require_memory_for(f, "this run", "do less"), Error);
  }
  CHECK_NOTHROW(require_memory_for(training_footprint(config(), {8, 32}, 0), "this run", "do less"));
}

TEST_CASE("the parts are said with their sizes") {
  CHECK(describe({1e6, 3e6, 0, 2e9}) ==
        "2.00 GB: 1.00 MB of parameters, 3.00 MB of gradients and optimizer, 2.00 GB of key/value cache");
  try {
    require_memory_for({0, 0, 4e15, 0}, "this run", "use a smaller --batch");
    FAIL("nothing was thrown");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
    CHECK(std::string(error.what())
              .starts_with("this run takes at least 4.00 PB of memory (4.00 PB of activations), and "));
  }
}
