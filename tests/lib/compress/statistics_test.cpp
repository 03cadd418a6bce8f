#include "compress/statistics.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "support/check.h"

using namespace hone;
using namespace hone::test;

namespace {

constexpr int64_t tokens = 300;
constexpr int64_t cols = 37;

// In parts of unequal length, as a model's rows come.
void add_in_parts(Statistic& statistic, const Tensor& x) {
  int64_t done = 0;
  for (const int64_t part : {1, 100, 0, 199}) {
    statistic.add(x.rows(done, part).view());
    done += part;
  }
  REQUIRE(done == x.dim(0));
}

double number(const Tensor& x, int64_t r, int64_t c) {
  const Tensor f32 = x.to(DType::f32);
  return static_cast<double>(f32.data<float>()[r * x.dim(1) + c]);
}

// Of each column the largest absolute value, in f32.
class LargestSize : public Statistic {
 public:
  static constexpr std::string_view name = "largest size";
  static double bytes_for(int64_t columns) { return 4 * static_cast<double>(columns); }
  explicit LargestSize(int64_t columns) : sizes(static_cast<size_t>(columns)) {}
  void add(kernels::ConstView x) override {
    for (int64_t r = 0; r < x.rows; ++r)
      for (size_t c = 0; c < sizes.size(); ++c) sizes[c] = std::max(sizes[c], std::fabs(x.row<float>(r)[c]));
  }

  std::vector<float> sizes;
};

}  // namespace

TEST_CASE("squares: sums over tokens, as norms and as means") {
  for (const DType type : {DType::f32, DType::bf16}) {
    const Tensor x = random_tensor({tokens, cols}, 1).to(type);
    ColumnSquares squares(cols);
    add_in_parts(squares, x);
    const std::vector<float> norms = squares.norms(), means = squares.means();
    for (int64_t c = 0; c < cols; ++c) {
      double sum = 0;
      for (int64_t r = 0; r < tokens; ++r) sum += number(x, r, c) * number(x, r, c);
      CHECK(norms[static_cast<size_t>(c)] == doctest::Approx(std::sqrt(sum)).epsilon(1e-5));
      CHECK(means[static_cast<size_t>(c)] == doctest::Approx(sum / tokens).epsilon(1e-5));
    }
  }
}

TEST_CASE("maxima: the largest size in each column, and a NaN where there is one") {
  for (const DType type : {DType::f32, DType::bf16}) {
    Tensor x = random_tensor({tokens, cols}, 6).to(type);
    ColumnMaxima maxima(cols);
    add_in_parts(maxima, x);
    for (int64_t c = 0; c < cols; ++c) {
      double largest = 0;
      for (int64_t r = 0; r < tokens; ++r) largest = std::max(largest, std::abs(number(x, r, c)));
      CHECK(static_cast<double>(maxima.maxima()[static_cast<size_t>(c)]) == largest);
    }
    if (type == DType::bf16) continue;
    x.data<float>()[3] = NAN;
    maxima.add(x.view());
    maxima.add(random_tensor({2, cols}, 7).view());
    CHECK(std::isnan(maxima.maxima()[3]));
    CHECK_FALSE(std::isnan(maxima.maxima()[4]));
  }
}

TEST_CASE("sampled rows: all of few, of many at most so many, evenly and in their order") {
  SampledRows few(2), many(2);
  constexpr int64_t rows = 5 * SampledRows::most + 17;
  const Tensor x = Tensor::empty({rows, 2});
  for (int64_t r = 0; r < rows; ++r) x.data<float>()[2 * r] = x.data<float>()[2 * r + 1] = static_cast<float>(r);
  few.add(x.rows(0, 5).view());
  few.add(x.rows(5, 6).to(DType::bf16).view());
  REQUIRE(few.rows().dim(0) == 11);
  for (int64_t r = 0; r < 11; ++r) CHECK(few.rows().data<float>()[2 * r + 1] == static_cast<float>(r));
  many.add(x.rows(0, 700).view());
  many.add(x.rows(700, rows - 700).view());
  const Tensor kept = many.rows();
  CHECK(kept.dim(0) <= SampledRows::most);
  CHECK(kept.dim(0) > SampledRows::most / 2);
  for (int64_t r = 0; r < kept.dim(0); ++r) CHECK(kept.data<float>()[2 * r] == static_cast<float>(8 * r));
}

TEST_CASE("the Gram matrix: x^T x at every instruction set, of which the squares are the diagonal") {
  at_every_isa([] {
    for (const DType type : {DType::f32, DType::bf16}) {
      CAPTURE(name_of(type));
      const Tensor x = random_tensor({tokens, cols}, 2).to(type);
      GramMatrix gram(cols);
      ColumnSquares squares(cols);
      add_in_parts(gram, x);
      add_in_parts(squares, x);
      Tensor expected = Tensor::empty({cols, cols});
      const Tensor f32 = x.to(DType::f32);
      for (int64_t i = 0; i < cols; ++i)
        for (int64_t j = 0; j < cols; ++j) {
          double sum = 0;
          for (int64_t r = 0; r < tokens; ++r)
            sum += static_cast<double>(f32.data<float>()[r * cols + i]) *
                   static_cast<double>(f32.data<float>()[r * cols + j]);
          expected.data<float>()[i * cols + j] = static_cast<float>(sum);
        }
      CHECK(relative_error(gram.sums(), expected) < 1e-5);
      for (int64_t i = 0; i < cols; ++i)
        CHECK(squares.norms()[static_cast<size_t>(i)] ==
              doctest::Approx(std::sqrt(number(gram.sums(), i, i))).epsilon(1e-5));
    }
  });
}

TEST_CASE("experts need as many tokens as they have inputs, other layers any") {
  const Tensor x = random_tensor({cols, cols}, 4);
  InputStatistics expert({}, cols, true), layer({}, cols, false);
  CHECK_FALSE(layer.sufficient());
  layer.add(x.rows(0, 1).view());
  CHECK(layer.sufficient());
  expert.add(x.rows(0, cols - 1).view());
  CHECK_FALSE(expert.sufficient());
  expert.add(x.rows(0, 1).view());
  CHECK(expert.sufficient());
  CHECK(expert.tokens() == cols);
}

TEST_CASE("a layer has the statistics that were asked for and no others; what they take is known before") {
  const StatisticKind kinds[] = {StatisticKind::of<ColumnSquares>(), StatisticKind::of<ColumnSums>()};
  InputStatistics inputs(kinds, cols, false);
  inputs.add(random_tensor({5, cols}, 5).view());
  CHECK(inputs.get<ColumnSquares>().norms().size() == cols);
  CHECK(inputs.get<ColumnSums>().sums().size() == cols);
  CHECK_THROWS_WITH_AS(inputs.get<GramMatrix>(), doctest::Contains("'gram'"), Error);
  CHECK(StatisticKind::of<ColumnSquares>().bytes(1000) == 4e3);
  CHECK(StatisticKind::of<ColumnSums>().bytes(1000) == 4e3);
  CHECK(StatisticKind::of<GramMatrix>().bytes(1000) == 4e6);
  CHECK(StatisticKind::of<GramMatrix>() == StatisticKind::of<GramMatrix>());
  CHECK_FALSE(StatisticKind::of<ColumnSquares>() == StatisticKind::of<ColumnSums>());
}

TEST_CASE("a statistic is its class alone: the library need not know it") {
  const StatisticKind kinds[] = {StatisticKind::of<LargestSize>()};
  InputStatistics inputs(kinds, 2, false);
  inputs.add(Tensor::of({2, 2}, {1, -5, -3, 4}).view());
  inputs.add(Tensor::of({1, 2}, {2, 0}).view());
  CHECK(inputs.get<LargestSize>().sizes == std::vector<float>{3, 5});
  CHECK(kinds[0].bytes(10) == 40);
}
