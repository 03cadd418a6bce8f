#include "compress/patterns.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "compress/masks.h"
#include "kernels/parallel.h"
#include "support/failure.h"
#include "support/masks.h"

using namespace hone;
using test::failure;

namespace {

constexpr ComparisonGroup kLayer = ComparisonGroup::layer, kRow = ComparisonGroup::row;

// Scores with many ties, or (levels 0) hardly any.
Tensor random_scores(int64_t rows, int64_t cols, uint64_t levels, uint64_t seed = 1) {
  Random random(seed, "scores");
  Tensor scores = Tensor::empty({rows, cols});
  for (float& s : scores.span<float>())
    s = levels ? static_cast<float>(random.below(levels)) : static_cast<float>(std::fabs(random.normal()));
  return scores;
}

// Marks all but the `pruned` lowest of the items listed, ties kept from the front: by sorting.
void keep_plainly(std::span<const float> scores, std::vector<int64_t> items, int64_t pruned,
                  std::vector<uint8_t>& kept) {
  std::stable_sort(items.begin(), items.end(), [&](int64_t a, int64_t b) {
    return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
  });
  items.resize(items.size() - static_cast<size_t>(pruned));
  for (int64_t i : items) kept[static_cast<size_t>(i)] = 1;
}

std::vector<int64_t> range(int64_t begin, int64_t count) {
  std::vector<int64_t> items(static_cast<size_t>(count));
  std::iota(items.begin(), items.end(), begin);
  return items;
}

std::vector<uint8_t> bits_of(const Bitmask& mask) {
  const Tensor bytes = expand_mask(mask);
  return {bytes.data<uint8_t>(), bytes.data<uint8_t>() + bytes.size()};
}

// The fewest of n whose part is not below the sparsity, found by trying.
int64_t fewest(int64_t n, double sparsity) {
  int64_t pruned = 0;
  while (static_cast<double>(pruned) / static_cast<double>(n) < sparsity) ++pruned;
  return pruned;
}

}  // namespace

TEST_CASE("a sparsity asked for is a floor: the fewest weights that reach it") {
  for (int64_t n : {1, 2, 3, 7, 10, 64, 100, 999, 4096, 123457})
    for (int64_t thousandths = 0; thousandths < 1000; thousandths += 7)
      REQUIRE(pruned_of(n, static_cast<double>(thousandths) / 1000.0) == (thousandths * n + 999) / 1000);
  CHECK(pruned_of(100, 0.07) == 7);  // 0.07 * 100 is 7.000000000000001
}

TEST_CASE("a block pattern that would leave nothing of a matrix is refused") {
  const auto pattern = parse_pattern("block:16x16");
  CHECK_NOTHROW(pattern->check_shape(16, 16, 0, "w"));
  CHECK_NOTHROW(pattern->check_shape(16, 64, 0.75, "w"));
  CHECK(failure([&] { pattern->check_shape(16, 64, 0.76, "the weight"); }).find("the weight") != std::string::npos);
}

TEST_CASE("unstructured over the layer keeps exactly the highest, ties from the front, as sorting does") {
  for (uint64_t levels : {0, 1, 5})
    for (double sparsity : {0.0, 0.1, 0.37, 0.5, 0.6, 0.999}) {
      const int64_t rows = 23, cols = 45;
      const Tensor scores = random_scores(rows, cols, levels);
      const Bitmask mask = select_mask(scores, *parse_pattern("unstructured"), sparsity, kLayer, "w");
      const int64_t pruned = fewest(rows * cols, sparsity);
      std::vector<uint8_t> expected(static_cast<size_t>(rows * cols));
      keep_plainly(scores.span<float>(), range(0, rows * cols), pruned, expected);
      CHECK(bits_of(mask) == expected);
      CHECK(mask.count() == rows * cols - pruned);
      CHECK_NOTHROW(check_mask(mask, rows, cols, "w"));
    }
}

TEST_CASE("unstructured by row prunes each row's share: exact in total, at most one apart") {
  for (uint64_t levels : {0, 3})
    for (double sparsity : {0.0, 0.25, 0.55, 0.9}) {
      const int64_t rows = 17, cols = 30;
      const Tensor scores = random_scores(rows, cols, levels);
      const Bitmask mask = select_mask(scores, *parse_pattern("unstructured"), sparsity, kRow, "w");
      const int64_t pruned = fewest(rows * cols, sparsity);
      CHECK(mask.count() == rows * cols - pruned);
      std::vector<uint8_t> expected(static_cast<size_t>(rows * cols));
      for (int64_t r = 0; r < rows; ++r)
        keep_plainly(scores.span<float>(), range(r * cols, cols), pruned / rows + (r < pruned % rows), expected);
      CHECK(bits_of(mask) == expected);
    }
}

TEST_CASE("N:M keeps the N highest of every M neighbours") {
  for (const auto& [n, m] : {std::pair<int64_t, int64_t>{2, 4}, {4, 8}, {1, 4}, {3, 3}, {5, 64}, {1, 1}})
    for (uint64_t levels : {0, 3}) {
      const int64_t rows = 9, cols = m * 6;
      const Tensor scores = random_scores(rows, cols, levels);
      const auto pattern = parse_pattern(fmt::format("{}:{}", n, m));
      CHECK(*pattern->fixed_sparsity() == doctest::Approx(1.0 - static_cast<double>(n) / static_cast<double>(m)));
      std::vector<uint8_t> expected(static_cast<size_t>(rows * cols));
      for (int64_t first = 0; first < rows * cols; first += m)
        keep_plainly(scores.span<float>(), range(first, m), m - n, expected);
      CHECK(bits_of(select_mask(scores, *pattern, *pattern->fixed_sparsity(), kLayer, "w")) == expected);
    }
}

TEST_CASE("blocks are kept or pruned whole by the sum of their scores") {
  const int64_t rows = 12, cols = 20, high = 3, wide = 5, across = cols / wide, blocks = (rows / high) * across;
  for (ComparisonGroup comparison : {kLayer, kRow})
    for (double sparsity : {0.0, 0.3, 0.5, 0.9}) {
      const Tensor scores = random_scores(rows, cols, 0);
      std::vector<float> sums(static_cast<size_t>(blocks));
      for (int64_t i = 0; i < rows * cols; ++i)
        sums[static_cast<size_t>(i / cols / high * across + i % cols / wide)] += scores.data<float>()[i];
      const int64_t pruned = fewest(blocks, sparsity);
      std::vector<uint8_t> kept(static_cast<size_t>(blocks)), expected(static_cast<size_t>(rows * cols));
      if (comparison == kLayer) {
        keep_plainly(sums, range(0, blocks), pruned, kept);
      } else {
        for (int64_t band = 0; band < rows / high; ++band)
          keep_plainly(sums, range(band * across, across), pruned / (rows / high) + (band < pruned % (rows / high)),
                       kept);
      }
      for (int64_t i = 0; i < rows * cols; ++i)
        expected[static_cast<size_t>(i)] = kept[static_cast<size_t>(i / cols / high * across + i % cols / wide)];
      CHECK(bits_of(select_mask(scores, *parse_pattern("block:3x5"), sparsity, comparison, "w")) == expected);
    }
}

TEST_CASE("what is pruned stays pruned while the sparsity grows, and the counts stay exact") {
  for (const char* name : {"unstructured", "block:2x4"})
    for (ComparisonGroup comparison : {kLayer, kRow}) {
      const int64_t rows = 14, cols = 24, unit = std::string(name) == "unstructured" ? 1 : 8;
      Bitmask mask;
      for (int step = 1; step <= 9; ++step) {
        const double sparsity = 0.1 * step;
        const Tensor scores =
            random_scores(rows, cols, 0, static_cast<uint64_t>(step));  // the weights have moved meanwhile
        const Bitmask next = select_mask(scores, *parse_pattern(name), sparsity, comparison, "w", mask);
        const int64_t units = rows * cols / unit;
        CHECK(next.count() == unit * (units - fewest(units, sparsity)));
        if (mask) CHECK(test::within(next, mask));
        mask = next;
      }
      // Less than what is pruned already changes nothing.
      const Bitmask same = select_mask(random_scores(rows, cols, 0), *parse_pattern(name), 0.2, comparison, "w", mask);
      CHECK(bits_of(same) == bits_of(mask));
    }
}

TEST_CASE("N:M and blocks over an unstructured mask keep nothing that it prunes") {
  const int64_t rows = 8, cols = 16;
  const Tensor scores = random_scores(rows, cols, 0);
  const Bitmask old = select_mask(scores, *parse_pattern("unstructured"), 0.6, kLayer, "w");
  for (const char* name : {"2:4", "block:2x2"}) {
    const Bitmask mask = select_mask(scores, *parse_pattern(name), 0.5, kLayer, "w", old);
    CHECK(test::within(mask, old));
    CHECK(mask.count() > 0);
  }
  std::vector<uint8_t> groups = bits_of(select_mask(scores, *parse_pattern("2:4"), 0.5, kLayer, "w", old));
  for (size_t i = 0; i < groups.size(); i += 4) CHECK(groups[i] + groups[i + 1] + groups[i + 2] + groups[i + 3] <= 2);
}

TEST_CASE("masks do not depend on the number of threads") {
  const int before = kernels::threads();
  const Tensor scores = random_scores(700, 512, 40);  // large enough to be cut, with ties across the cuts
  for (const char* name : {"unstructured", "4:8", "block:4x16"})
    for (ComparisonGroup comparison : {kLayer, kRow}) {
      kernels::set_threads(1);
      const std::vector<uint8_t> one = bits_of(select_mask(scores, *parse_pattern(name), 0.53, comparison, "w"));
      for (int threads : {2, 3, 7}) {
        kernels::set_threads(threads);
        CHECK(bits_of(select_mask(scores, *parse_pattern(name), 0.53, comparison, "w")) == one);
      }
    }
  kernels::set_threads(before);
}

TEST_CASE("negative scores order below positive ones, and both zeros tie") {
  const Tensor scores = Tensor::of({1, 6}, {-3, 0.0f, -1, -0.0f, 2, -2});
  const Bitmask half = select_mask(scores, *parse_pattern("unstructured"), 0.5, kLayer, "w");
  CHECK(bits_of(half) == std::vector<uint8_t>{0, 1, 0, 1, 1, 0});
  const Bitmask two = select_mask(scores, *parse_pattern("unstructured"), 4.0 / 6, kRow, "w");
  CHECK(bits_of(two) == std::vector<uint8_t>{0, 1, 0, 0, 1, 0});
}

TEST_CASE("patterns print as they are typed, and others are refused with the list of what exists") {
  for (const char* name : {"unstructured", "2:4", "4:8", "1:64", "block:16x8"})
    CHECK(parse_pattern(name)->name() == name);
  for (const char* name :
       {"", "structured", "2:", ":4", "2:4x", "2/4", "-1:4", "block:", "block:16", "block:axb", "16x16"}) {
    const std::string message = failure([&] { parse_pattern(name); });
    CHECK_MESSAGE(message.starts_with("2 "), name);
    CHECK_MESSAGE(message.find(name) != std::string::npos, message);
  }
  CHECK(failure([] { parse_pattern("3/4"); }).find("unstructured, N:M") != std::string::npos);
  for (const char* name : {"0:4", "5:4", "2:65", "block:0x4", "block:4x5000"})
    CHECK_MESSAGE(failure([&] { parse_pattern(name); }).starts_with("2 pattern"), name);
}

TEST_CASE("the sparsity is the pattern's where it fixes one, and a contradiction is refused") {
  const auto free = parse_pattern("unstructured"), fixed = parse_pattern("1:3");
  CHECK(resolve_sparsity(*free, 0.6) == 0.6);
  CHECK(resolve_sparsity(*free, 0.0) == 0.0);
  CHECK(resolve_sparsity(*fixed, std::nullopt) == doctest::Approx(2.0 / 3));
  CHECK(resolve_sparsity(*fixed, 0.667) == doctest::Approx(2.0 / 3));
  CHECK(failure([&] { resolve_sparsity(*fixed, 0.5); }).starts_with("2 pattern 1:3"));
  CHECK(failure([&] { resolve_sparsity(*free, std::nullopt); }).starts_with("2 "));
  for (double bad : {-0.1, 1.0, 1.5, std::nan("")})
    CHECK(failure([&] { resolve_sparsity(*free, bad); }).starts_with("2 sparsity"));
}

TEST_CASE("matrices that a pattern does not divide and damaged scores are refused, naming the layer") {
  const Tensor scores = random_scores(6, 10, 0);
  for (const char* name : {"2:4", "block:4x5", "block:3x4"}) {
    const std::string message =
        failure([&] { select_mask(scores, *parse_pattern(name), 0.5, kLayer, "blocks.1.down"); });
    CHECK_MESSAGE(message.starts_with("2 blocks.1.down"), message);
  }
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const Tensor damaged = scores.clone();
    damaged.data<float>()[59] = bad;
    const auto select = [&] { select_mask(damaged, *parse_pattern("unstructured"), 0.5, kRow, "blocks.1.down"); };
    CHECK(failure(select).starts_with("3 blocks.1.down"));
  }
  const Bitmask wrong = Bitmask::ones(6, 20);
  const auto select = [&] { select_mask(scores, *parse_pattern("unstructured"), 0.5, kRow, "blocks.1.down", wrong); };
  CHECK(failure(select).starts_with("3 blocks.1.down"));
}
