// Batches, noise and states: what a call of the model is told, and what it
// remembers.
#include "nn/batch.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "nn/call.h"
#include "nn/state.h"
#include "support/failure.h"

using namespace hone;
using namespace hone::test;

namespace {

std::vector<int32_t> positions_of(const Batch& batch) {
  return {batch.positions().begin(), batch.positions().end()};
}

// Remembers what it is asked to forget.
class Recorder : public LayerState {
 public:
  explicit Recorder(int64_t kept) : kept_(kept) {}
  int64_t bytes() const override { return 100; }
  int64_t earliest(int64_t, int64_t length) const override { return std::max<int64_t>(1, length - kept_); }
  void truncate(int64_t sequence, int64_t length, int64_t tokens) override {
    cuts.push_back({sequence, length, tokens});
  }
  std::vector<std::array<int64_t, 3>> cuts;

 private:
  int64_t kept_;
};

}  // namespace

TEST_CASE("a batch has the rows of its spans, one after another") {
  const Batch batch({{2, 5, 3}, {0, 0, 1}, {1, 9, 2}});
  CHECK(batch.rows() == 6);
  CHECK(batch.end() == 11);
  CHECK(positions_of(batch) == std::vector<int32_t>{5, 6, 7, 0, 9, 10});
  CHECK(batch.spans().size() == 3);
  const Batch whole = Batch::whole(2, 3);
  CHECK(positions_of(whole) == std::vector<int32_t>{0, 1, 2, 0, 1, 2});
  CHECK(whole.spans()[1].sequence == 1);
  CHECK(whole.end() == 3);
  CHECK(Batch().rows() == 0);
}

TEST_CASE("neighbouring spans of one length are a group") {
  const Batch batch({{0, 0, 4}, {1, 7, 4}, {2, 0, 1}, {3, 0, 1}, {4, 2, 1}, {5, 0, 4}});
  const std::vector<Batch::Group> groups = batch.groups();
  REQUIRE(groups.size() == 3);
  CHECK(groups[0].spans.size() == 2);
  CHECK(groups[0].count == 4);
  CHECK(groups[1].first_row == 8);
  CHECK(groups[1].spans.size() == 3);
  CHECK(groups[1].spans[2].sequence == 4);
  CHECK(groups[2].first_row == 11);
  CHECK(groups[2].count == 4);
}

TEST_CASE("a batch that cannot be is refused") {
  for (const Span& span : {Span{0, 0, 0}, Span{0, -1, 2}, Span{-1, 0, 2}, Span{0, INT32_MAX, 1}})
    CHECK(kind_of_failure([&] { Batch(std::vector<Span>{span}); }) == ErrorKind::internal);
}

TEST_CASE("noise is a function of seed, layer and site, and differs at each") {
  Noise noise;
  noise.seed = 7;
  std::set<uint64_t> seen = {noise.at_embedding()};
  for (int64_t layer = 0; layer < 50; ++layer)
    for (const Site site : {Site::mixer, Site::feed_forward, Site::router, Site::skip, Site::mixer_input,
                            Site::mixer_output, Site::up, Site::down}) {
      CHECK(noise.at(layer, site) == noise.at(layer, site));
      seen.insert(noise.at(layer, site));
    }
  CHECK(seen.size() == 1 + 50 * 8);
  Noise other;
  other.seed = 8;
  CHECK(!seen.contains(other.at(0, Site::mixer)));
  CHECK(!seen.contains(other.at(3, Site::router)));
}

TEST_CASE("a state takes batches that continue its sequences and have room") {
  State state({3, 10});
  state.add_layer(std::make_unique<Recorder>(100));
  CHECK(state.length(2) == 0);
  const Batch first({{0, 0, 4}, {2, 0, 9}});
  state.require_room(first, 0, 1);
  state.advance(first, 0, 1);
  CHECK(state.length(0) == 4);
  CHECK(state.length(1) == 0);
  CHECK(state.length(2) == 9);
  const auto refusal = [&](std::vector<Span> spans) {
    return kind_of_failure([&] { state.require_room(Batch(std::move(spans)), 0, 1); });
  };
  CHECK(refusal({{2, 9, 2}}) == ErrorKind::usage);                // beyond the capacity
  CHECK(refusal({{0, 3, 1}}) == ErrorKind::internal);             // not where it ends
  CHECK(refusal({{3, 0, 1}}) == ErrorKind::internal);             // no such sequence
  CHECK(refusal({{1, 0, 1}, {1, 1, 1}}) == ErrorKind::internal);  // twice
  state.require_room(Batch({{2, 9, 1}, {1, 0, 10}, {0, 4, 6}}), 0, 1);
}

TEST_CASE("the first layers of a state may be ahead of the others") {
  State state({1, 20});
  std::vector<Recorder*> layers;
  for (int i = 0; i < 3; ++i) {
    auto layer = std::make_unique<Recorder>(100);
    layers.push_back(layer.get());
    state.add_layer(std::move(layer));
  }
  state.advance(Batch({{0, 0, 5}}), 0, 3);
  state.advance(Batch({{0, 5, 1}}), 0, 2);
  state.advance(Batch({{0, 6, 1}}), 0, 2);
  CHECK(state.length(0) == 5);
  CHECK(state.length(0, 1) == 7);
  CHECK(state.length(0, 2) == 5);
  const auto refused = [&](Span span, int64_t from, int64_t to) {
    return kind_of_failure([&] { state.require_room(Batch({span}), from, to); }) == ErrorKind::internal;
  };
  CHECK(refused({0, 5, 1}, 0, 2));
  CHECK(refused({0, 7, 1}, 0, 3));
  state.require_room(Batch({{0, 7, 1}}), 0, 2);
  state.require_room(Batch({{0, 5, 2}}), 2, 3);
  state.truncate(0, 5);  // nothing for the last layer to do
  CHECK(layers[1]->cuts == std::vector<std::array<int64_t, 3>>{{0, 7, 5}});
  CHECK(layers[2]->cuts.empty());
  CHECK(state.length(0, 0) == 5);
  state.require_room(Batch({{0, 5, 1}}), 0, 3);
}

TEST_CASE("a state takes tokens back in every layer or in none") {
  State state({2, 20});
  const auto add = [&](int64_t kept) {
    auto layer = std::make_unique<Recorder>(kept);
    Recorder* const seen = layer.get();
    state.add_layer(std::move(layer));
    return seen;
  };
  Recorder *const long_memory = add(100), *const ring = add(3);
  CHECK(state.bytes() == 200);
  state.advance(Batch({{0, 0, 5}, {1, 0, 12}}), 0, 2);
  CHECK(kind_of_failure([&] { state.truncate(1, 8); }) == ErrorKind::usage);  // the ring keeps three
  CHECK(kind_of_failure([&] { state.truncate(1, 13); }) == ErrorKind::internal);
  CHECK(kind_of_failure([&] { state.truncate(2, 0); }) == ErrorKind::internal);
  CHECK(long_memory->cuts.empty());
  CHECK(state.length(1) == 12);
  state.truncate(1, 12);
  CHECK(long_memory->cuts.empty());  // nothing to do
  state.truncate(1, 9);
  state.truncate(1, 0);  // all of them, whatever the layers keep
  for (const Recorder* layer : {long_memory, ring}) {
    REQUIRE(layer->cuts.size() == 2);
    CHECK(layer->cuts[0] == std::array<int64_t, 3>{1, 12, 9});
    CHECK(layer->cuts[1] == std::array<int64_t, 3>{1, 9, 0});
  }
  CHECK(state.length(1) == 0);
  CHECK(state.length(0) == 5);
  state.require_room(Batch({{1, 0, 20}}), 0, 2);
}
