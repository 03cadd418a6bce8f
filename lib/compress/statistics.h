// Statistics of the rows that enter a linear layer: what a compression method may want to know of them. A new one is
// its class alone, here or where it is used: it is asked for by its type, StatisticKind::of<GramMatrix>().
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "kernels/view.h"
#include "tensor/tensor.h"

namespace hone {

// Behind what a layer is measured.
enum class MeasuredBehind {
  blocks,  // what has become of the blocks before its own, which is as it was
  layers,  // what has become of all layers before it, in its own block too
};

// Sees all rows that enter one layer, some at a time.
class Statistic {
 public:
  virtual ~Statistic() = default;
  virtual void add(kernels::ConstView x) = 0;  // f32 or bf16 [tokens, cols]
};

// A statistic that is asked for. Its class S is made of the number of columns and has `name`, for messages, and
// bytes_for(cols): what it takes for a layer of so many inputs while it is measured.
struct StatisticKind {
  std::string_view name;
  double (*bytes)(int64_t cols);
  std::unique_ptr<Statistic> (*make)(int64_t cols);

  template <class S>
  static StatisticKind of() {
    return {S::name, S::bytes_for, make_one<S>};
  }
  bool operator==(const StatisticKind& other) const { return make == other.make; }

 private:
  template <class S>
  static std::unique_ptr<Statistic> make_one(int64_t cols) {
    return std::make_unique<S>(cols);
  }
};

// Of each column the sum over tokens of x_j^2.
class ColumnSquares : public Statistic {
 public:
  static constexpr std::string_view name = "squares";
  static double bytes_for(int64_t cols) { return 4 * static_cast<double>(cols); }
  explicit ColumnSquares(int64_t cols) : sums_(static_cast<size_t>(cols)) {}
  void add(kernels::ConstView x) override;
  std::vector<float> norms() const;  // sqrt(sum): Wanda's ||x_j||_2
  std::vector<float> means() const;  // sum / tokens: E[x_j^2]

 private:
  std::vector<float> sums_;
  int64_t tokens_ = 0;
};

// The sum over tokens of x x^T: half the Hessian of the layer's squared output error in each row of its weights (LeCun
// et al. 1990; Frantar & Alistarh, arXiv 2301.00774, section 3). Products and sums are f32, whatever the rows are.
class GramMatrix : public Statistic {
 public:
  static constexpr std::string_view name = "gram";
  // Of which products fill the half on and above the diagonal.
  static double bytes_for(int64_t cols) { return 4 * static_cast<double>(cols) * static_cast<double>(cols); }
  explicit GramMatrix(int64_t cols) : sums_(Tensor::zeros({cols, cols})) {}
  void add(kernels::ConstView x) override;
  const Tensor& sums() const;  // f32 [cols, cols]

 private:
  Tensor sums_;  // what lies below the diagonal is filled in by sums()
};

// Of each column the sum over tokens of x_j.
class ColumnSums : public Statistic {
 public:
  static constexpr std::string_view name = "sums";
  static double bytes_for(int64_t cols) { return 4 * static_cast<double>(cols); }
  explicit ColumnSums(int64_t cols) : sums_(static_cast<size_t>(cols)) {}
  void add(kernels::ConstView x) override;
  std::span<const float> sums() const { return sums_; }

 private:
  std::vector<float> sums_;
};

// Of each column the largest |x_j| over the tokens.
class ColumnMaxima : public Statistic {
 public:
  static constexpr std::string_view name = "maxima";
  static double bytes_for(int64_t cols) { return 4 * static_cast<double>(cols); }
  explicit ColumnMaxima(int64_t cols) : maxima_(static_cast<size_t>(cols)) {}
  void add(kernels::ConstView x) override;
  std::span<const float> maxima() const { return maxima_; }  // NaN where a token has one

 private:
  std::vector<float> maxima_;
};

// At most 256 of the rows themselves, spread evenly over them.
class SampledRows : public Statistic {
 public:
  static constexpr int64_t most = 256;
  static constexpr std::string_view name = "rows";
  static double bytes_for(int64_t cols) { return 4 * static_cast<double>(most * cols); }
  explicit SampledRows(int64_t cols) : rows_(Tensor::empty({most, cols})) {}
  void add(kernels::ConstView x) override;
  Tensor rows() const { return rows_.rows(0, count_); }  // f32, in their order

 private:
  Tensor rows_;
  int64_t count_ = 0, seen_ = 0, step_ = 1;  // rows that are kept; of so many; from one to the next
};

// What is measured of one layer: statistics of the kinds asked for, and whether enough came for them.
class InputStatistics {
 public:
  // `expert`: of a mixture, so that only the tokens that are routed to it enter.
  InputStatistics(std::span<const StatisticKind> kinds, int64_t cols, bool expert);
  void add(kernels::ConstView x);

  int64_t tokens() const { return tokens_; }
  int64_t cols() const { return cols_; }
  // An expert needs as many tokens as it has inputs: from fewer, which of its columns matter is chance. Other layers
  // see all of the text, which is the user's choice.
  bool sufficient() const { return tokens_ > 0 && (!expert_ || tokens_ >= cols_); }

  // Throws Error(internal) where it was not asked for.
  template <class S>
  const S& get() const {
    for (const auto& statistic : statistics_)
      if (const S* found = dynamic_cast<const S*>(statistic.get())) return *found;
    throw internal_error("'{}' is no statistic among the needs that were named", S::name);
  }

 private:
  int64_t cols_, tokens_ = 0;
  bool expert_;
  std::vector<std::unique_ptr<Statistic>> statistics_;
};

}  // namespace hone
