// The pool behind storage: what was freed serves whatever fits, and what is kept is bounded.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <thread>
#include <vector>

#include "base/random.h"
#include "tensor/pool.h"
#include "tensor/tensor.h"

using namespace hone;

namespace {

constexpr size_t megabyte = size_t{1} << 20;

struct TakenBlock {
  Extent* extent;
  size_t bytes;
};

// From a line to 8 MB, as many of each octave.
size_t some_size(Random& random) {
  const size_t octave = size_t{64} << random.below(18);
  return octave + random.below(octave);
}

}  // namespace

TEST_CASE("what was freed serves the next requests, larger and smaller ones") {
  release_pool();
  const std::byte* first = nullptr;
  {
    const Tensor low = Tensor::empty({100000}), high = Tensor::empty({300000});
    first = low.raw();
  }
  const size_t before = pool_system_allocations();
  const Tensor both = Tensor::empty({400000 - 64});
  CHECK(both.raw() == first);
  CHECK(pool_system_allocations() == before);
}

TEST_CASE("large storage, of whole pages, lies where others were freed side by side") {
  release_pool();
  const std::byte* first = nullptr;
  {
    const Tensor low = Tensor::empty({16 * megabyte}, DType::u8), high = Tensor::empty({8 * megabyte}, DType::u8);
    first = std::min(low.raw(), high.raw());
  }
  const size_t before = pool_system_allocations(), used = pool_used_bytes();
  const Tensor both = Tensor::empty({24 * megabyte - 100}, DType::u8);
  CHECK(both.raw() == first);
  CHECK(pool_system_allocations() == before);
  CHECK(pool_used_bytes() == used + 24 * megabyte);
}

TEST_CASE("blocks never overlap, begin at multiples of 64, and what they hold is bounded") {
  Pool pool;
  Random random(1, "blocks");
  std::map<const std::byte*, TakenBlock> living;
  size_t used = 0, most = 0;
  for (int i = 0; i < 20000; ++i) {
    // The number of blocks rises and falls.
    if (living.empty() || random.below(100) < (i / 2500 % 2 ? 45u : 55u)) {
      const size_t bytes = some_size(random);
      Extent* const extent = pool.take(bytes);
      CHECK(reinterpret_cast<uintptr_t>(extent->data) % 64 == 0);
      const auto above = living.lower_bound(extent->data);
      if (above != living.end()) REQUIRE(extent->data + bytes <= above->first);
      if (above != living.begin()) REQUIRE(std::prev(above)->first + std::prev(above)->second.bytes <= extent->data);
      living[extent->data] = {extent, bytes};
      used += static_cast<size_t>(pool_block_bytes(static_cast<double>(bytes)));
      most = std::max(most, used);
      CHECK(pool.bytes().held <= most + most / 2 + 64 * megabyte);
    } else {
      auto one = living.begin();
      std::advance(one, random.below(living.size()));
      pool.give(one->second.extent, one->second.bytes);
      used -= static_cast<size_t>(pool_block_bytes(static_cast<double>(one->second.bytes)));
      living.erase(one);
    }
    REQUIRE(pool.bytes().used == used);
    REQUIRE(pool.bytes().peak == most);
  }
  for (const auto& [data, block] : living) pool.give(block.extent, block.bytes);
  CHECK(pool.bytes().held > 0);
  pool.release();
  CHECK(pool.bytes().held == 0);
}

TEST_CASE("numbers stay what they are while others come, go and are trimmed") {
  Pool pool;
  const auto work = [&](uint64_t seed) {
    Random random(seed, "numbers");
    std::vector<std::pair<TakenBlock, unsigned char>> living;
    int wrong = 0;
    for (int i = 0; i < 1500; ++i) {
      if (living.size() < 12) {
        const size_t bytes = some_size(random) / 8;
        Extent* const extent = pool.take(bytes);
        const auto value = static_cast<unsigned char>(random.below(256));
        std::memset(extent->data, value, bytes);
        living.push_back({{extent, bytes}, value});
        continue;
      }
      const size_t which = random.below(living.size());
      const auto [block, value] = living[which];
      const auto* data = reinterpret_cast<const unsigned char*>(block.extent->data);
      for (size_t at = 0; at < block.bytes; ++at) wrong += data[at] != value;
      pool.give(block.extent, block.bytes);
      living.erase(living.begin() + static_cast<std::ptrdiff_t>(which));
      if (i % 50 == 0) pool.release();
    }
    for (const auto& [block, value] : living) pool.give(block.extent, block.bytes);
    return wrong;
  };
  int wrong = 0;
  std::thread other([&] { wrong = work(2); });
  CHECK(work(1) == 0);
  other.join();
  CHECK(wrong == 0);
  pool.release();
  CHECK(pool.bytes().held == 0);
  CHECK(pool.bytes().used == 0);
}

// As a router makes them: no two prompts have rows of the same number. Nothing is written, so that no page is taken.
TEST_CASE("the hundredth prompt of a mixture takes no more memory than the tenth") {
  for (const int64_t dim : {96, 1536}) {
    CAPTURE(dim);
    Pool pool;
    Random random(1, "prompts");
    const auto take = [&](int64_t numbers) {
      const auto bytes = static_cast<size_t>(numbers) * 2;
      return TakenBlock{pool.take(bytes), bytes};
    };
    const auto give = [&](const TakenBlock& block) { pool.give(block.extent, block.bytes); };
    std::vector<TakenBlock> kept;
    size_t tenth = 0, growths = 0;
    for (int prompt = 0; prompt < 100; ++prompt) {
      if (prompt == 10) {
        tenth = pool.bytes().held;
        growths = pool.growths();
      }
      const auto rows = static_cast<int64_t>(prompt == 5 ? 4096 : 512 + random.below(3584));
      std::vector<TakenBlock> outputs;
      for (int layer = 0; layer < 6; ++layer) {
        if (prompt == 0) kept.push_back(take(64 * dim));  // what the first call makes stays among the others
        const TakenBlock in = take(rows * dim);
        for (int64_t left = rows; left > 0;) {
          const int64_t some = std::min<int64_t>(left, 1 + static_cast<int64_t>(random.below(600)));
          const TakenBlock hidden = take(some * dim * 2), out = take(some * dim);
          give(hidden);
          give(out);
          left -= some;
        }
        outputs.push_back(take(rows * dim));
        give(in);
      }
      for (const TakenBlock& block : outputs) give(block);
    }
    CHECK(pool.bytes().held == tenth);
    CHECK(pool.growths() == growths);
    CHECK(static_cast<double>(tenth) <= 1.1 * static_cast<double>(pool.bytes().peak) + 8e6);
    for (const TakenBlock& block : kept) give(block);
  }
}

TEST_CASE("where somebody set a limit, pages without a block go back to the system") {
  Pool pool;
  const TakenBlock small = {pool.take(1000), 1000}, large = {pool.take(40 * megabyte), 40 * megabyte};
  const TakenBlock other = {pool.take(20 * megabyte), 20 * megabyte};
  pool.give(large.extent, large.bytes);
  CHECK(pool.bytes().held == 62 * megabyte);
  pool.limit_to(40 * megabyte);
  CHECK(pool.bytes().held == 40 * megabyte);
  pool.limit_to(0);
  CHECK(pool.bytes().held == 22 * megabyte);  // the page of the small one, and the other
  const size_t before = pool.growths();
  pool.give(pool.take(40 * megabyte), 40 * megabyte);
  CHECK(pool.growths() == before + 1);
  pool.give(small.extent, small.bytes);
  pool.give(other.extent, other.bytes);
  pool.release();
  CHECK(pool.bytes().held == 0);
}

TEST_CASE("where somebody set a limit, what was taken beyond it goes back once it is freed") {
  Pool pool;
  pool.limit_to(8 * megabyte);
  Extent* const large = pool.take(40 * megabyte);
  CHECK(pool.bytes().held == 40 * megabyte);
  pool.give(large, 40 * megabyte);
  CHECK(pool.bytes().held == 8 * megabyte);
  std::vector<Extent*> small(24);
  for (Extent*& one : small) one = pool.take(megabyte);
  CHECK(pool.bytes().held >= 24 * megabyte);
  for (Extent* const one : small) pool.give(one, megabyte);
  CHECK(pool.bytes().held <= 8 * megabyte);
}

TEST_CASE("the end of a range serves although many free extents hide it") {
  constexpr size_t line = 64;
  Arena arena;
  std::vector<Extent*> freed;
  for (int i = 0; i < 40; ++i) {
    freed.push_back(arena.take(64 * line));
    arena.take(line);  // so that no two become one
  }
  Extent* const rest = arena.take(huge_page - 40 * 65 * line - 70 * line);
  for (Extent* const one : freed) arena.give(one);  // of the class of the 70 lines at the end, listed before these
  const std::byte* const end = rest->data + rest->bytes;
  CHECK(arena.take(70 * line)->data == end);
  CHECK(arena.held() == huge_page);
}

TEST_CASE("what cannot be had is said, and harms nothing") {
  Pool pool;
  for (const size_t bytes : {size_t{1} << 60, SIZE_MAX / 2, SIZE_MAX - 1})
    CHECK_THROWS_AS(pool.take(bytes), std::bad_alloc);
  const TakenBlock block = {pool.take(3 * megabyte), 3 * megabyte};
  std::memset(block.extent->data, 1, block.bytes);
  pool.give(block.extent, block.bytes);
  CHECK(pool.bytes().used == 0);
}
