#include "compress/statistics.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "support/check.h"

using namespace hone;
using namespace hone::test;

namespace {

constexpr int64_t tokens = 300, cols = 37;

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

TEST_CASE("extremes: the least and the greatest of each column, exactly") {
  for (const DType type : {DType::f32, DType::bf16}) {
    const Tensor x = random_tensor({tokens, cols}, 3).to(type);
    ColumnExtremes extremes(cols);
    add_in_parts(extremes, x);
    for (int64_t c = 0; c < cols; ++c) {
      double least = INFINITY, greatest = -INFINITY;
      for (int64_t r = 0; r < tokens; ++r) {
        least = std::min(least, number(x, r, c));
        greatest = std::max(greatest, number(x, r, c));
      }
      CHECK(static_cast<double>(extremes.least()[static_cast<size_t>(c)]) == least);
      CHECK(static_cast<double>(extremes.greatest()[static_cast<size_t>(c)]) == greatest);
    }
  }
}

TEST_CASE("a number that is none is not lost among the extremes, whatever comes after it") {
  const Tensor x = Tensor::of({3, 3}, {1, NAN, 4, 2, 3, 5, -1, 0, NAN});
  ColumnExtremes extremes(3);
  extremes.add(x.view());
  CHECK(extremes.least()[0] == -1);
  CHECK(extremes.greatest()[0] == 2);
  for (const size_t c : {1u, 2u}) {
    CHECK(std::isnan(extremes.least()[c]));
    CHECK(std::isnan(extremes.greatest()[c]));
  }
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
  const StatisticKind kinds[] = {StatisticKind::squares, StatisticKind::extremes};
  InputStatistics inputs(kinds, cols, false);
  inputs.add(random_tensor({5, cols}, 5).view());
  CHECK(inputs.get<ColumnSquares>().norms().size() == cols);
  CHECK(inputs.get<ColumnExtremes>().least().size() == cols);
  CHECK_THROWS_AS(inputs.get<GramMatrix>(), Error);
  CHECK(statistic_bytes(StatisticKind::squares, 1000) == 4e3);
  CHECK(statistic_bytes(StatisticKind::gram, 1000) == 4e6);
  CHECK(statistic_bytes(StatisticKind::extremes, 1000) == 8e3);
  CHECK(name_of(StatisticKind::gram) == "gram");
}
