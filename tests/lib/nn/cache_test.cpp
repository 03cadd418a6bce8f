// A layer's cache against a plain account of what it must hold.
#include "nn/attention/cache.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "support/check.h"

using namespace hone;
using namespace hone::test;

namespace {

constexpr int64_t heads = 2;
constexpr int64_t head_dim = 4;

// Keys (or values) of tokens from `first` on, which say where they belong:
// [count, heads * head_dim].
Tensor marked(int64_t sequence, int64_t first, int64_t count, bool values, DType type) {
  const Tensor rows = Tensor::empty({count, heads * head_dim});
  float* at = rows.data<float>();
  for (int64_t t = 0; t < count; ++t)
    for (int64_t h = 0; h < heads; ++h)
      for (const int64_t x : {first + t, h, sequence, int64_t{values}}) *at++ = static_cast<float>(x);
  return rows.to(type);
}

kernels::HeadRows rows_of(const Tensor& t) {
  return {t.raw(), t.dtype(), 0, heads * head_dim, head_dim};
}

// True where row `row` of every head has the mark of that position.
bool holds(kernels::ConstHeadRows rows, int64_t row, int64_t sequence, int64_t position, bool values) {
  for (int64_t h = 0; h < heads; ++h) {
    const auto one = kernels::starting_at(rows, 0, row, h);
    const int64_t expected[] = {position, h, sequence, values};
    for (int64_t d = 0; d < head_dim; ++d) {
      const float x = one.dtype == DType::f32 ? static_cast<const float*>(one.data)[d]
                                              : to_float(static_cast<const bf16*>(one.data)[d]);
      if (x != static_cast<float>(expected[d])) return false;
    }
  }
  return true;
}

void store(LayerCache& cache, int64_t sequence, int64_t position, int64_t count, DType type = DType::f32) {
  const Tensor k = marked(sequence, position, count, false, type), v = marked(sequence, position, count, true, type);
  cache.store(sequence, position, count, rows_of(k), rows_of(v));
}

// The positions that a ring of `ring` rows behind `sinks` has after `tokens`
// tokens.
std::vector<int32_t> kept(int64_t tokens, int64_t sinks, int64_t ring) {
  std::vector<int32_t> positions;
  for (int64_t p = 0; p < tokens; ++p)
    if (p < sinks || p >= tokens - ring) positions.push_back(static_cast<int32_t>(p));
  return positions;
}

void check_rows(const LayerCache& cache, int64_t sequence, int64_t tokens, const std::vector<int32_t>& expected) {
  std::vector<int32_t> positions(static_cast<size_t>(cache.rows())), found;
  cache.positions(tokens, positions.data());
  for (int64_t row = 0; row < cache.rows(); ++row) {
    const int32_t position = positions[static_cast<size_t>(row)];
    if (position < 0) continue;
    found.push_back(position);
    CAPTURE(row);
    CAPTURE(position);
    CHECK(holds(cache.keys(sequence), row, sequence, position, false));
    CHECK(holds(cache.values(sequence), row, sequence, position, true));
  }
  std::ranges::sort(found);
  CHECK(found == expected);
}

// The positions of a history: whole blocks of what is seen and of what follows, as far as there are positions.
std::vector<int32_t> in_blocks(int64_t position, const std::vector<int32_t>& seen) {
  std::vector<int32_t> positions;
  for (int64_t p = 0; p < position; ++p) {
    const auto beside = [&](int64_t other) { return p / kernels::attention_block == other / kernels::attention_block; };
    if (beside(position) || std::ranges::any_of(seen, beside)) positions.push_back(static_cast<int32_t>(p));
  }
  return positions;
}

bool zeros(kernels::ConstHeadRows rows, int64_t row) {
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t d = 0; d < head_dim; ++d)
      if (static_cast<const float*>(kernels::starting_at(rows, 0, row, h).data)[d] != 0) return false;
  return true;
}

// What a query at `position` may see of the positions before it.
void check_history(const LayerCache& cache, int64_t sequence, int64_t position, int64_t window, int64_t sinks) {
  const LayerCache::History history = cache.history(sequence, position, 3);
  const std::vector<int32_t> seen = kept(position, sinks, window - 1);
  CHECK(history.positions == in_blocks(position, seen));
  const int64_t rows = history.keys.dim(1);
  REQUIRE(rows == static_cast<int64_t>(history.positions.size()) + 3);
  CHECK(history.values.shape() == history.keys.shape());
  const auto view = [&](const Tensor& t) {
    return kernels::HeadRows{t.raw(), t.dtype(), 0, head_dim, rows * head_dim};
  };
  for (size_t i = 0; i < history.positions.size(); ++i) {
    if (std::ranges::find(seen, history.positions[i]) == seen.end()) {
      CHECK(zeros(view(history.keys), static_cast<int64_t>(i)));
      CHECK(zeros(view(history.values), static_cast<int64_t>(i)));
      continue;
    }
    CHECK(holds(view(history.keys), static_cast<int64_t>(i), sequence, history.positions[i], false));
    CHECK(holds(view(history.values), static_cast<int64_t>(i), sequence, history.positions[i], true));
  }
}

}  // namespace

TEST_CASE(
    "every token has the row that positions() names, however many are "
    "stored at once") {
  for (const DType type : {DType::f32, DType::bf16})
    for (const auto& [window, sinks, take_back] :
         std::vector<std::array<int64_t, 3>>{{kernels::MaskRule::unlimited, 0, 0}, {8, 0, 0}, {8, 3, 0}, {8, 3, 5}})
      for (const int64_t chunk : {1, 3, 7, 20}) {
        CAPTURE(window);
        CAPTURE(sinks);
        CAPTURE(take_back);
        CAPTURE(chunk);
        LayerCache cache({window, sinks, 0}, heads, head_dim, {1, 60, type, take_back});
        const int64_t ring = std::min<int64_t>(60, window + take_back);
        for (int64_t position = 0; position + chunk <= 60; position += chunk) {
          store(cache, 0, position, chunk, type);
          const int64_t tokens = position + chunk;
          CHECK(cache.wraps(tokens) == (tokens > ring + sinks));
          check_rows(cache, 0, tokens, kept(tokens, sinks, ring));
        }
      }
}

TEST_CASE("sequences have rows of their own") {
  LayerCache cache({4, 1, 0}, heads, head_dim, {3, 30});
  store(cache, 0, 0, 9);
  store(cache, 2, 0, 2);
  store(cache, 1, 0, 6);
  store(cache, 2, 2, 11);
  check_rows(cache, 0, 9, kept(9, 1, 4));
  check_rows(cache, 1, 6, kept(6, 1, 4));
  check_rows(cache, 2, 13, kept(13, 1, 4));
}

TEST_CASE("a history is what later queries may see, in order, with room behind it") {
  for (const auto& [window, sinks] : std::vector<std::array<int64_t, 2>>{{8, 0}, {8, 3}, {1, 0}, {1, 2}}) {
    LayerCache cache({window, sinks, 0}, heads, head_dim, {2, 50});
    store(cache, 1, 0, 40);
    for (int64_t position = 0; position < 40; ++position) {
      CAPTURE(window);
      CAPTURE(sinks);
      CAPTURE(position);
      store(cache, 0, position, 1);
      check_history(cache, 0, position + 1, window, sinks);
    }
  }
}

TEST_CASE(
    "tokens that are taken back leave what the next query sees, at the "
    "earliest that the cache names") {
  for (const auto& [sinks, take_back] : std::vector<std::array<int64_t, 2>>{{0, 0}, {0, 6}, {3, 6}}) {
    constexpr int64_t window = 8;
    for (int64_t length = 1; length <= 40; ++length) {
      CAPTURE(sinks);
      CAPTURE(take_back);
      CAPTURE(length);
      LayerCache cache({window, sinks, 0}, heads, head_dim, {1, 60, DType::f32, take_back});
      store(cache, 0, 0, length);
      const int64_t earliest = cache.earliest(0, length);
      CHECK(earliest <= std::max<int64_t>(1, length - take_back));
      cache.truncate(0, length, earliest);
      check_history(cache, 0, earliest, window, sinks);
      store(cache, 0, earliest, 4);
      check_history(cache, 0, earliest + 4, window, sinks);
    }
  }
}

TEST_CASE("tokens that are taken back in several calls count from the longest that the sequence has been") {
  constexpr int64_t window = 8, take_back = 6;
  const StateShape shape = {1, 60, DType::f32, take_back};
  State state(shape);
  state.add_layer(std::make_unique<LayerCache>(CacheNeed{window, 0, 0}, heads, head_dim, shape));
  auto& cache = dynamic_cast<LayerCache&>(*state.layer(0));
  const auto feed = [&](int64_t count) {
    const int64_t first = state.length(0);
    store(cache, 0, first, count);
    state.advance(Batch({{0, first, count}}), 0, 1);
  };
  feed(30);
  const int64_t earliest = cache.earliest(0, 30);
  state.truncate(0, earliest + 2);
  CHECK_THROWS_AS(state.truncate(0, earliest - 1), Error);  // the second call has no more than the first
  CHECK(state.length(0) == earliest + 2);
  CHECK_THROWS_AS(state.keep(0), Error);
  state.truncate(0, earliest);
  check_history(cache, 0, earliest, window, 0);
  feed(3);  // where others were: the ring has still nothing of earlier ones
  CHECK_THROWS_AS(state.truncate(0, earliest - 1), Error);
  state.truncate(0, earliest + 1);
  check_history(cache, 0, earliest + 1, window, 0);
  feed(20);  // longer than ever
  CHECK_THROWS_AS(state.truncate(0, cache.earliest(0, earliest + 21) - 1), Error);
  state.truncate(0, cache.earliest(0, earliest + 21));
  check_history(cache, 0, cache.earliest(0, earliest + 21), window, 0);
  state.truncate(0, 0);
  feed(5);
  state.truncate(0, 1);  // a sequence that begins anew has all that it has stored
  check_history(cache, 0, 1, window, 0);
}

TEST_CASE("summaries after taking tokens back are those of the tokens that stay") {
  const CacheNeed need = {kernels::MaskRule::unlimited, 0, 64};
  const StateShape shape = {2, 200};
  const Tensor keys = random_tensor({200, heads * head_dim}, 1), values = random_tensor({200, heads * head_dim}, 2);
  const auto filled = [&](LayerCache& cache, int64_t first, int64_t end) {
    cache.store(1, first, end - first, kernels::starting_at(rows_of(keys), 0, first),
                kernels::starting_at(rows_of(values), 0, first));
  };
  for (const int64_t tokens : {1, 63, 64, 65, 100, 128, 150}) {
    CAPTURE(tokens);
    LayerCache cache(need, heads, head_dim, shape), expected(need, heads, head_dim, shape);
    filled(cache, 0, 190);
    cache.truncate(1, 190, tokens);
    filled(expected, 0, tokens);
    const kernels::KeySummaries a = cache.key_summaries(1), b = expected.key_summaries(1);
    const int64_t numbers = kernels::KeySummaries::rows * head_dim, blocks = (tokens + 63) / 64;
    const auto same = [&](int64_t of_blocks) {
      for (int64_t h = 0; h < heads; ++h)
        if (!std::equal(a.data + h * a.head_stride, a.data + h * a.head_stride + of_blocks * numbers,
                        b.data + h * b.head_stride))
          return false;
      return true;
    };
    CHECK(same(blocks));
    filled(cache, tokens, 195);  // and goes on as if there had never been more
    filled(expected, tokens, 195);
    CHECK(same(4));
  }
}

TEST_CASE("a cache of codes gives back what they say of each token, from a ring too, however many come at once") {
  for (const kernels::CacheCode code : kernels::all_cache_codes)
    for (const DType type : {DType::f32, DType::bf16})
      for (const auto& [window, sinks] :
           std::vector<std::array<int64_t, 2>>{{kernels::MaskRule::unlimited, 0}, {8, 0}, {8, 3}})
        for (const int64_t chunk : {1, 4, 20}) {
          CAPTURE(window);
          CAPTURE(chunk);
          StateShape shape{1, 60, type};
          shape.code = code;
          LayerCache cache({window, sinks, 0}, heads, head_dim, shape);
          REQUIRE(cache.coded());
          for (int64_t position = 0; position < 40; position += chunk) store(cache, 0, position, chunk, type);
          const LayerCache::History history = cache.history(0, 40, 0);
          const auto count = static_cast<int64_t>(history.positions.size());
          const std::vector<int32_t> seen = kept(40, sinks, std::min<int64_t>(40, window - 1));
          CHECK(history.positions == in_blocks(40, seen));
          CHECK(history.keys.dtype() == type);
          const Tensor alone = Tensor::empty({heads, 1, head_dim}, type);
          for (int64_t i = 0; i < count; ++i)
            for (const bool values : {false, true}) {
              if (std::ranges::find(seen, history.positions[static_cast<size_t>(i)]) == seen.end()) continue;
              const Tensor one = marked(0, history.positions[static_cast<size_t>(i)], 1, values, type);
              cache.copy_as_stored(rows_of(one), {alone.raw(), type, 0, head_dim, head_dim}, 0, 1);
              const Tensor& from = values ? history.values : history.keys;
              bool same = true;
              for (int64_t h = 0; h < heads; ++h) {
                const auto bytes = static_cast<size_t>(head_dim) * size_of(type);
                same &= std::memcmp(
                            reinterpret_cast<const char*>(from.raw()) + static_cast<size_t>(h * count + i) * bytes,
                            reinterpret_cast<const char*>(alone.raw()) + static_cast<size_t>(h) * bytes, bytes) == 0;
              }
              CHECK(same);
            }
          if (window < 40) continue;
          const LayerCache::Plain plain = cache.plain(0, 40);
          CHECK(plain.keys.dtype == type);
          CHECK(std::memcmp(plain.keys.data, history.keys.raw(), history.keys.bytes()) == 0);
          CHECK(std::memcmp(plain.values.data, history.values.raw(), history.values.bytes()) == 0);
        }
}

TEST_CASE("a cache takes the memory that is said before it is made") {
  for (const CacheNeed& need : {CacheNeed{}, CacheNeed{8, 2, 0}, CacheNeed{kernels::MaskRule::unlimited, 0, 64}})
    for (const StateShape& shape : {StateShape{1, 100}, StateShape{3, 130, DType::bf16, 7},
                                    StateShape{3, 130, DType::bf16, 7, kernels::cache_code_named("int8")},
                                    StateShape{2, 70, DType::f32, 0, kernels::cache_code_named("int4")}}) {
      const LayerCache cache(need, heads, head_dim, shape);
      CHECK(static_cast<double>(cache.bytes()) == LayerCache::bytes_of(need, heads, head_dim, shape));
    }
}

TEST_CASE(
    "heads are copied between f32 and bf16, from rows of tokens to rows "
    "of heads, one or many") {
  const Tensor from = random_tensor({9, heads * head_dim}, 1);
  for (const DType type : {DType::f32, DType::bf16})
    for (const int64_t count : {1, 4}) {
      const Tensor to = Tensor::zeros({heads, 10, head_dim}, type), source = from.to(type);
      const kernels::HeadRows rows_to = {to.raw(), to.dtype(), 0, head_dim, 10 * head_dim};
      copy_heads(rows_of(from), 5, rows_to, 2, count, heads, head_dim);
      const Tensor read = to.to(DType::f32), expected = source.to(DType::f32);
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t t = 0; t < 10; ++t)
          for (int64_t d = 0; d < head_dim; ++d) {
            const bool copied = t >= 2 && t < 2 + count;
            const float x = read.data<float>()[(h * 10 + t) * head_dim + d];
            REQUIRE(x == (copied ? expected.data<float>()[(t + 3) * heads * head_dim + h * head_dim + d] : 0.0f));
          }
    }
}
