// One model in several threads of the caller's: tests/run.sh runs these under the thread sanitizer, too.
#include <doctest/doctest.h>

#include <thread>

#include "kernels/parallel.h"
#include "model/depth_routers.h"
#include "model/session.h"
#include "support/check.h"
#include "support/models.h"
#include "support/repack.h"
#include "weights/deferred_weight.h"

using namespace hone;
using namespace hone::test;

namespace {

// A prompt and some steps, in pieces as generation feeds them.
std::vector<float> generated(const Transformer& model, const std::vector<int32_t>& ids, DType type) {
  std::vector<float> all;
  Session session(model, {1, static_cast<int64_t>(ids.size()), type});
  const auto feed = [&](size_t begin, size_t count) {
    const Tensor logits = session.feed(std::span(ids).subspan(begin, count), 16);
    all.insert(all.end(), logits.span<float>().begin(), logits.span<float>().end());
  };
  feed(0, ids.size() - 12);
  for (size_t t = ids.size() - 12; t < ids.size(); ++t) feed(t, 1);
  return all;
}

Config mixed_config() {
  Config c = small_config();
  c.context = 24;  // shorter than the sequences, so that the table of rotary positions grows while they run
  c.layers = {{4, 2, 96, "window:20:2"}, {2, 2, 64, "full"}};
  c.layers[1].experts = 4;
  c.layers[1].top_k = 2;
  return c;
}

Config kinds_config(const char* kinds) {
  Config c = small_config();
  c.context = 160;
  set_attention(c, kinds);
  return c;
}

Config depth_config() {
  Config c = small_config();
  set_depth_routers(c, std::vector<int64_t>{1}, 0.5);
  return c;
}

// Every matrix as a file gives it that is not read before it is used.
struct Deferring : Visitor {
  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    Encoded encoded = weight->encode();
    encoded.verify = [] {};
    weight = std::make_shared<DeferredWeight>(std::move(encoded), info.name);
  }
  void parameter(const ParameterInfo& info, Parameter& parameter) override {
    if (info.role != Role::depth_router) return;
    for (float& x : parameter.value.span<float>()) x *= 20;  // so that some tokens go through, and some do not
  }
};

// `form`: of Repack, or nothing for f32.
void make_deferred(Transformer& model, const std::string& form) {
  initialize(model, 3, 0.2);
  Repack repack(form);
  if (!form.empty()) model.visit(repack);
  Deferring deferring;
  model.visit(deferring);
}

// What the model gives three threads at once is what `other`, the same, gives one.
void check_threads(const Transformer& fresh, const Transformer& other, const std::vector<int32_t>& ids, DType type) {
  const std::vector<float> expected = generated(other, ids, type);
  std::vector<std::vector<float>> found(3);
  std::vector<std::thread> threads;
  for (auto& mine : found) threads.emplace_back([&] { mine = generated(fresh, ids, type); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& mine : found) CHECK(mine == expected);
}

}  // namespace

TEST_CASE("threads: one model gives several at once what it gives one") {
  const std::vector<int32_t> ids = some_ids(90);
  for (const DType type : {DType::f32, DType::bf16})
    for (int round = 0; round < 5; ++round) {
      // A new model each round: what is made at first use must be made again.
      Transformer fresh(mixed_config()), other(mixed_config());
      initialize(fresh, 3, 0.2);
      initialize(other, 3, 0.2);
      check_threads(fresh, other, ids, type);
    }
}

TEST_CASE("threads: the first use of deferred and packed weights, in layers of each kind") {
  struct Case {
    const char* what;
    Config config;
    std::string form;
    DType type;
    int64_t tokens;
  };
  const Config routed = kinds_config("routed:64:2"), conv = kinds_config("conv:4,full"), depth = depth_config(),
               mixed = mixed_config();
  for (const Case& c :
       {Case{"routed", routed, "", DType::bf16, 150}, Case{"routed", routed, "int8", DType::f32, 150},
        Case{"conv", conv, "bf16", DType::bf16, 60}, Case{"conv", conv, "int8 sparse", DType::bf16, 60},
        Case{"depth", depth, "", DType::f32, 60}, Case{"depth", depth, "int8", DType::bf16, 60},
        Case{"mixed", mixed, "bf16 sparse", DType::bf16, 60}, Case{"mixed", mixed, "int4 sparse", DType::f32, 60}}) {
    CAPTURE(c.what);
    CAPTURE(c.form);
    Transformer fresh(c.config), other(c.config);
    make_deferred(fresh, c.form);
    make_deferred(other, c.form);
    check_threads(fresh, other, some_ids(c.tokens), c.type);
  }
}

TEST_CASE("threads: their number is the process's, whichever thread asks") {
  const int before = kernels::threads();
  kernels::set_threads(before + 1);
  int seen = 0;
  std::thread([&] { seen = kernels::threads(); }).join();
  CHECK(seen == before + 1);
  std::thread([&] { kernels::set_threads(before); }).join();
  CHECK(kernels::threads() == before);
}
