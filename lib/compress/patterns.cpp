#include "compress/patterns.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "base/error.h"
#include "compress/masks.h"
#include "compress/select.h"
#include "kernels/parallel.h"

namespace hone {
namespace {

using PatternPointer = std::shared_ptr<const Pattern>;

template <class... Args>
PatternMisfit misfit(fmt::format_string<Args...> format, Args&&... args) {
  return {ErrorKind::usage, fmt::format(format, std::forward<Args>(args)...)};
}

Bitmask keep_by(const Tensor& keys, double sparsity, ComparisonGroup comparison) {
  const int64_t pruned = pruned_of(keys.size(), sparsity);
  return comparison == ComparisonGroup::row ? keep_highest_by_row(keys, pruned)
                                            : keep_highest(keys, keys.size() - pruned);
}

class Unstructured : public Pattern {
 public:
  std::string name() const override { return "unstructured"; }
  Bitmask select(const Tensor&, const Tensor& keys, double sparsity, ComparisonGroup comparison) const override {
    return keep_by(keys, sparsity, comparison);
  }
};

class NOfM : public Pattern {
 public:
  NOfM(int64_t n, int64_t m) : n_(n), m_(m) {}
  std::string name() const override { return fmt::format("{}:{}", n_, m_); }
  std::optional<double> fixed_sparsity() const override {
    return 1.0 - static_cast<double>(n_) / static_cast<double>(m_);
  }
  int64_t column_unit() const override { return m_; }
  void check_shape(int64_t rows, int64_t cols, double, const std::string& where) const override {
    if (cols % m_ != 0)
      throw misfit("{}: {} x {} cannot be pruned {}: its {} columns are not a multiple of {}", where, rows, cols,
                   name(), cols, m_);
  }

  Bitmask select(const Tensor&, const Tensor& keys, double, ComparisonGroup) const override {
    const int64_t rows = keys.dim(0), cols = keys.dim(1);
    const Bitmask mask = Bitmask::zeros(rows, cols);
    kernels::parallel_for(rows, kernels::row_grain(cols), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        for (int64_t c = 0; c < cols; c += m_) keep_group(keys.data<uint32_t>() + r * cols, c, mask.row(r));
    });
    return mask;
  }

 private:
  void keep_group(const uint32_t* keys, int64_t first, uint8_t* bits) const {
    uint64_t ranked[64];  // key, then reversed index: no two are equal, and the lower index wins
    for (int64_t i = 0; i < m_; ++i)
      ranked[i] = static_cast<uint64_t>(keys[first + i]) << 6 | static_cast<uint64_t>(63 - i);
    std::nth_element(ranked, ranked + n_ - 1, ranked + m_, std::greater<>());
    for (int64_t i = 0; i < n_; ++i) {
      const int64_t c = first + 63 - static_cast<int64_t>(ranked[i] & 63);
      if (keys[c] != 0) kernels::set_bit(bits, c);
    }
  }

  int64_t n_, m_;
};

class Blocks : public Pattern {
 public:
  Blocks(int64_t rows, int64_t cols) : rows_(rows), cols_(cols) {}
  std::string name() const override { return fmt::format("block:{}x{}", rows_, cols_); }
  int64_t column_unit() const override { return cols_; }
  void check_shape(int64_t rows, int64_t cols, double sparsity, const std::string& where) const override {
    if (rows % rows_ != 0 || cols % cols_ != 0)
      throw misfit("{}: {} x {} does not divide into blocks of {} x {}", where, rows, cols, rows_, cols_);
    const int64_t blocks = rows / rows_ * (cols / cols_);
    if (pruned_of(blocks, sparsity) == blocks)
      throw usage_error("{}: a sparsity of {} leaves none of its {} blocks of {} x {}; choose smaller blocks", where,
                        sparsity, blocks, rows_, cols_);
  }

  Bitmask select(const Tensor& scores, const Tensor& keys, double sparsity, ComparisonGroup comparison) const override {
    const auto [sums, alive] = block_sums(scores, keys);
    return spread(keep_by(selection_keys(sums, alive, name()), sparsity, comparison), keys);
  }

 private:
  // Sum of the scores not pruned before, [rows / R, cols / C], and a mask of the blocks that have any.
  std::pair<Tensor, Bitmask> block_sums(const Tensor& scores, const Tensor& keys) const {
    const int64_t rows = scores.dim(0) / rows_, cols = scores.dim(1) / cols_, stride = scores.dim(1);
    Tensor sums = Tensor::empty({rows, cols}), alive = Tensor::zeros({rows, cols}, DType::u8);
    kernels::parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
      std::vector<double> sum(static_cast<size_t>(cols));
      for (int64_t r = begin; r < end; ++r) {
        std::fill(sum.begin(), sum.end(), 0.0);
        for (int64_t i = r * rows_ * stride; i < (r + 1) * rows_ * stride; ++i) {
          if (keys.data<uint32_t>()[i] == 0) continue;
          const int64_t block = i % stride / cols_;
          sum[static_cast<size_t>(block)] += static_cast<double>(scores.data<float>()[i]);
          alive.data<uint8_t>()[r * cols + block] = 1;
        }
        // The mean orders the blocks as the sum does and stays within the range of a float.
        for (int64_t c = 0; c < cols; ++c)
          sums.data<float>()[r * cols + c] =
              static_cast<float>(sum[static_cast<size_t>(c)] / static_cast<double>(rows_ * cols_));
      }
    });
    return {sums, pack_mask(alive)};
  }

  // A block's bit over all its weights, without those pruned before.
  Bitmask spread(const Bitmask& blocks, const Tensor& keys) const {
    const int64_t rows = keys.dim(0), cols = keys.dim(1);
    const Bitmask mask = Bitmask::zeros(rows, cols);
    kernels::parallel_for(rows, kernels::row_grain(cols), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const uint32_t* key = keys.data<uint32_t>() + r * cols;
        uint8_t* bits = mask.row(r);
        for (int64_t b = 0; b < blocks.cols(); ++b)
          for (int64_t c = b * cols_; blocks.at(r / rows_, b) && c < (b + 1) * cols_; ++c)
            if (key[c] != 0) kernels::set_bit(bits, c);
      }
    });
    return mask;
  }

  int64_t rows_, cols_;
};

// A number at the front of `text`; one that is too large for its type is the largest, which no pattern takes either.
std::from_chars_result number_at_front(const char* text, const char* end, int64_t& number) {
  std::from_chars_result result = std::from_chars(text, end, number);
  if (result.ec != std::errc::result_out_of_range) return result;
  number = std::numeric_limits<int64_t>::max();
  result.ec = {};
  return result;
}

// The two numbers of "<prefix>A<separator>B"; none for any other text.
std::optional<std::pair<int64_t, int64_t>> two_numbers(std::string_view text, std::string_view prefix, char separator) {
  if (!text.starts_with(prefix)) return std::nullopt;
  text.remove_prefix(prefix.size());
  std::pair<int64_t, int64_t> numbers;
  const char* end = text.data() + text.size();
  const auto first = number_at_front(text.data(), end, numbers.first);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != separator) return std::nullopt;
  const auto second = number_at_front(first.ptr + 1, end, numbers.second);
  if (second.ec != std::errc() || second.ptr != end) return std::nullopt;
  return numbers;
}

PatternPointer parse_unstructured(std::string_view text) {
  return text == "unstructured" ? std::make_shared<Unstructured>() : nullptr;
}

PatternPointer parse_n_of_m(std::string_view text) {
  const auto numbers = two_numbers(text, "", ':');
  if (!numbers) return nullptr;
  const auto [n, m] = *numbers;
  if (n < 1 || n > m || m > 64)
    throw usage_error("pattern '{}': N:M keeps N of every M weights along a row and needs 1 <= N <= M <= 64", text);
  return std::make_shared<NOfM>(n, m);
}

PatternPointer parse_blocks(std::string_view text) {
  const auto numbers = two_numbers(text, "block:", 'x');
  if (!numbers) return nullptr;
  const auto [rows, cols] = *numbers;
  if (rows < 1 || cols < 1 || rows > 4096 || cols > 4096)
    throw usage_error("pattern '{}': block:RxC needs R rows and C columns from 1 to 4096", text);
  return std::make_shared<Blocks>(rows, cols);
}

struct PatternKind {
  const char* syntax;
  PatternPointer (*parse)(std::string_view text);  // null where the text is of another kind
};

constexpr PatternKind pattern_kinds[] = {
    {"unstructured", parse_unstructured},
    {"N:M (N kept of every M along a row, such as 2:4 or 4:8)", parse_n_of_m},
    {"block:RxC (blocks of R rows and C columns, such as block:16x16)", parse_blocks},
};

}  // namespace

void Pattern::check_shape(int64_t, int64_t, double, const std::string&) const {}

std::string pattern_syntax() {
  std::string list;
  for (const PatternKind& kind : pattern_kinds) list += (list.empty() ? "" : ", ") + std::string(kind.syntax);
  return list;
}

PatternPointer parse_pattern(std::string_view text) {
  for (const PatternKind& kind : pattern_kinds)
    if (PatternPointer pattern = kind.parse(text)) return pattern;
  throw usage_error("unknown pattern '{}'; patterns are {}", text, pattern_syntax());
}

int64_t pruned_of(int64_t elements, double sparsity) {
  const auto all = static_cast<double>(elements);
  // The product rounds: 0.07 * 100 lies above 7. What counts is the quotient that a report will show.
  auto pruned = static_cast<int64_t>(std::ceil(sparsity * all));
  while (pruned > 0 && static_cast<double>(pruned - 1) / all >= sparsity) --pruned;
  while (pruned < elements && static_cast<double>(pruned) / all < sparsity) ++pruned;
  return pruned;
}

bool contradicts(const Pattern& pattern, double asked) {
  const std::optional<double> fixed = pattern.fixed_sparsity();
  return fixed && std::fabs(*fixed - asked) > 0.005;
}

double resolve_sparsity(const Pattern& pattern, std::optional<double> asked) {
  const std::optional<double> fixed = pattern.fixed_sparsity();
  if (asked && !(*asked >= 0.0 && *asked < 1.0))
    throw usage_error("sparsity {} must be at least 0 and below 1", *asked);
  if (!fixed && !asked) throw usage_error("pattern {} needs a sparsity", pattern.name());
  if (asked && contradicts(pattern, *asked))
    throw usage_error("pattern {} has a sparsity of {:.4g} by itself, not {:.4g}", pattern.name(), *fixed, *asked);
  return fixed ? *fixed : *asked;
}

Bitmask select_mask(const Tensor& scores, const Pattern& pattern, double sparsity, ComparisonGroup comparison,
                    const std::string& where, const Bitmask& existing) {
  pattern.check_shape(scores.dim(0), scores.dim(1), sparsity, where);
  return pattern.select(scores, selection_keys(scores, existing, where), sparsity, comparison);
}

}  // namespace hone
