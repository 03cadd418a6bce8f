#include "compress/select.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <functional>
#include <vector>

#include "base/error.h"
#include "compress/masks.h"
#include "kernels/parallel.h"

namespace hone {
namespace {

// Order-preserving: flips the sign bit of what is not negative and all bits of what is. Adding 0 turns -0 into 0.
uint32_t ordered(float score) {
  const uint32_t bits = std::bit_cast<uint32_t>(score + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

constexpr size_t bin_count = 65536;

// Where, counted from the highest bin, the keep-th key lies; leaves in `keep` how many of that bin's keys are wanted.
size_t bin_of(const std::vector<int64_t>& counts, int64_t parts, int64_t& keep) {
  for (size_t bin = bin_count; bin-- > 0;) {
    int64_t n = 0;
    for (int64_t p = 0; p < parts; ++p) n += counts[static_cast<size_t>(p) * bin_count + bin];
    if (n >= keep) return bin;
    keep -= n;
  }
  return 0;
}

// The cut of a large array: a histogram of the upper halves of the keys, then one of the lower halves within the bin
// found.
Cut find_cut_in_parallel(const uint32_t* keys, int64_t n, int64_t keep) {
  const int64_t parts = kernels::threads();
  std::vector<int64_t> counts(static_cast<size_t>(parts) * bin_count);
  const auto count = [&](auto&& bin_or_none) {
    std::fill(counts.begin(), counts.end(), 0);
    kernels::parallel_for(n, 1 << 18, [&](int64_t begin, int64_t end) {
      int64_t* mine = counts.data() + static_cast<size_t>(kernels::thread_index() % parts) * bin_count;
      for (int64_t i = begin; i < end; ++i) bin_or_none(keys[i], mine);
    });
  };
  count([](uint32_t key, int64_t* bins) { ++bins[key >> 16]; });
  const size_t upper = bin_of(counts, parts, keep);
  count([upper](uint32_t key, int64_t* bins) { bins[key & 0xffffu] += (key >> 16) == upper; });
  const size_t lower = bin_of(counts, parts, keep);
  return {static_cast<uint32_t>(upper << 16 | lower), keep};
}

}  // namespace

Tensor selection_keys(const Tensor& scores, const Bitmask& existing, const std::string& where) {
  const int64_t rows = scores.dim(0), cols = scores.dim(1);
  if (existing) check_mask(existing, rows, cols, where);
  Tensor keys = Tensor::empty({rows, cols}, DType::u32);
  const float* score = scores.data<float>();
  uint32_t* out = keys.data<uint32_t>();
  std::atomic<bool> finite{true};
  kernels::parallel_for(rows, kernels::row_grain(cols), [&](int64_t begin, int64_t end) {
    bool all = true;
    for (int64_t i = begin * cols; i < end * cols; ++i) {
      all &= std::isfinite(score[i]);
      out[i] = ordered(score[i]);
    }
    if (existing)
      for (int64_t r = begin; r < end; ++r)
        for (int64_t c = 0; c < cols; ++c)
          if (!existing.at(r, c)) out[r * cols + c] = 0;
    if (!all) finite = false;
  });
  if (!finite)
    throw input_error(
        "{}: pruning scores that are not finite numbers; its weights or calibration statistics are damaged", where);
  return keys;
}

Cut find_cut(const uint32_t* keys, int64_t n, int64_t keep, uint32_t* scratch) {
  if (keep <= 0) return {UINT32_MAX, 0};
  std::copy(keys, keys + n, scratch);
  std::nth_element(scratch, scratch + keep - 1, scratch + n, std::greater<>());
  const uint32_t key = scratch[keep - 1];
  return {key, std::count(scratch, scratch + keep, key)};
}

void keep_above(const uint32_t* keys, int64_t n, Cut cut, uint8_t* bits) {
  for (int64_t c = 0; c < n; c += 8) {
    unsigned byte = 0;
    const int64_t width = std::min<int64_t>(8, n - c);
    for (int64_t i = 0; i < width; ++i) {
      const uint32_t key = keys[c + i];
      const bool tie = key == cut.key && cut.ties > 0;
      cut.ties -= tie;
      byte |= static_cast<unsigned>((key > cut.key || tie) && key != 0) << i;
    }
    bits[c / 8] = static_cast<uint8_t>(byte);
  }
}

Bitmask keep_highest(const Tensor& keys, int64_t keep) {
  const int64_t rows = keys.dim(0), cols = keys.dim(1);
  const Bitmask mask = Bitmask::zeros(rows, cols);
  if (keep <= 0) return mask;
  const uint32_t* key = keys.data<uint32_t>();
  const Cut cut = find_cut_in_parallel(key, rows * cols, keep);
  // Ties go to the first by index: each row learns how many the rows before it take.
  std::vector<int64_t> ties(static_cast<size_t>(rows));
  kernels::parallel_for(rows, kernels::row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      ties[static_cast<size_t>(r)] = std::count(key + r * cols, key + (r + 1) * cols, cut.key);
  });
  int64_t left = cut.ties;
  for (int64_t& t : ties) {
    t = std::min(t, left);
    left -= t;
  }
  kernels::parallel_for(rows, kernels::row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      keep_above(key + r * cols, cols, {cut.key, ties[static_cast<size_t>(r)]}, mask.row(r));
  });
  return mask;
}

Bitmask keep_highest_by_row(const Tensor& keys, int64_t pruned) {
  const int64_t rows = keys.dim(0), cols = keys.dim(1);
  const Bitmask mask = Bitmask::zeros(rows, cols);
  // The first `spare` rows prune one more. So no row's share shrinks when the sparsity grows, and what is pruned stays
  // so.
  const int64_t whole = rows ? pruned / rows : 0, spare = rows ? pruned % rows : 0;
  kernels::parallel_for(rows, kernels::row_grain(cols), [&](int64_t begin, int64_t end) {
    std::vector<uint32_t> scratch(static_cast<size_t>(cols));
    for (int64_t r = begin; r < end; ++r) {
      const int64_t share = whole + (r < spare ? 1 : 0);
      const uint32_t* row = keys.data<uint32_t>() + r * cols;
      const Cut cut = find_cut(row, cols, cols - share, scratch.data());
      keep_above(row, cols, cut, mask.row(r));
    }
  });
  return mask;
}

}  // namespace hone
