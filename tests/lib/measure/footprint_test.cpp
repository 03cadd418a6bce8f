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

TEST_CASE("training: masters, gradients, moments, copies for bf16, and what backward needs") {
  const Footprint f32 = training_footprint(config(), 8, 32, DType::f32);
  CHECK(f32.parameters == 4 * (matrices + others));
  CHECK(f32.optimizer == 12 * (matrices + others));
  // Inputs and targets; two residuals; two norms, q and k and v, attention, gate and up and their product.
  const double row = 2 * 64 + (64 + 32 + 32) + 64 + 3 * 128;
  CHECK(f32.activations == 8 * 32 * (8 + 4 * 2 * 64 + 4 * row));
  const Footprint bf16 = training_footprint(config(), 8, 32, DType::bf16);
  CHECK(bf16.parameters == 4 * (matrices + others) + 4 * matrices);
  CHECK(bf16.activations == 8 * 32 * (8 + 4 * 2 * 64 + 2 * row));
}

TEST_CASE("training of mixtures: as many rows of experts as are chosen, at most") {
  Config mixture = config();
  mixture.layers[0].experts = 8;
  mixture.layers[0].top_k = 2;
  const double rows = 8 * 32, hidden = rows * 4 * 3 * 128,
               dense = training_footprint(config(), 8, 32, DType::f32).activations;
  CHECK(training_footprint(mixture, 8, 32, DType::f32).activations == dense + hidden);
  CHECK(training_footprint(mixture, 8, 32, DType::f32, 1.5).activations == dense + hidden);
  CHECK(training_footprint(mixture, 8, 32, DType::f32, 0.5).activations == dense);
  mixture.layers[0].shared_experts = 1;
  CHECK(training_footprint(mixture, 8, 32, DType::f32, 0.5).activations == dense + hidden);
}

TEST_CASE("generation: cache and one chunk of rows") {
  const Footprint f = generation_footprint(config(), 3, 100, 10, DType::bf16);
  CHECK(f.parameters == 0);
  CHECK(f.cache == 3 * 2 * 100 * 2 * 16 * 2);
  CHECK(f.activations == 3 * 10 * (4 + 4 * 64 + 2 * 128));
}

TEST_CASE("calibration: the text between two blocks, and the weights") {
  const Footprint f = calibration_footprint(config(), 1000, DType::f32, 5e6);
  CHECK(f.parameters == 5e6);
  CHECK(f.activations == 1000 * (4 + 8 * 64));
}

TEST_CASE("no size is too large to be refused") {
  constexpr int64_t huge = INT64_MAX;
  for (const Footprint& f : {training_footprint(config(), huge, huge, DType::f32),
                             generation_footprint(config(), huge, huge, huge, DType::f32)}) {
    CHECK(std::isfinite(f.total()));
    CHECK(f.total() > 1e30);
    CHECK_THROWS_AS(require_memory_for(f, "this run", "do less"), Error);
  }
  CHECK_NOTHROW(require_memory_for(training_footprint(config(), 8, 32, DType::f32), "this run", "do less"));
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
