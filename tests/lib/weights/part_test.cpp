#include "weights/part.h"

#include <doctest/doctest.h>

#include "base/error.h"
#include "support/check.h"
#include "weights/dense_weight.h"
#include "weights/packed_weight.h"

using namespace hone;
using namespace hone::test;

namespace {

// The whole made again of all parts.
Tensor together(const Tensor& whole, const RankPart& part) {
  const Tensor made = Tensor::zeros(whole.shape(), whole.dtype());
  for (int rank = 0; rank < part.count; ++rank)
    put_part(take_part(whole, part.of_rank(rank)), part.of_rank(rank), made);
  return made;
}

Bitmask some_bits(int64_t rows, int64_t cols) {
  const Bitmask bits = Bitmask::zeros(rows, cols);
  Random random(3, "bits");
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c)
      if (random.below(3) > 0) bits.set(r, c);
  return bits;
}

}  // namespace

TEST_CASE("rows are divided stretch by stretch, columns in one") {
  const Share second{1, 2};
  const RankPart rows = second.rows({4, 2}), cols = second.columns({6});
  Tensor whole = Tensor::empty({6, 6});
  for (int64_t i = 0; i < 36; ++i) whole.data<float>()[i] = static_cast<float>(i);
  const Tensor some_rows = take_part(whole, rows), some_cols = take_part(whole, cols);
  CHECK(some_rows.shape() == Shape{3, 6});
  CHECK(some_rows.data<float>()[0] == 12);   // rows 2 and 3 of the first stretch
  CHECK(some_rows.data<float>()[12] == 30);  // row 1 of the second
  CHECK(some_cols.shape() == Shape{6, 3});
  CHECK(some_cols.data<float>()[3] == 9);
  CHECK(whole_shape(rows, {3, 6}) == whole.shape());
  for (const RankPart& part : {rows, cols, Share{0, 3}.rows({6}), Share{2, 3}.columns({6}), RankPart()})
    CHECK(relative_error(together(whole, part), whole) == 0);
  const Tensor vector = whole.reshape({36}).rows(0, 6);
  CHECK(relative_error(together(vector, rows), vector) == 0);
  CHECK_FALSE(Share().rows({5}).divided());
  CHECK_THROWS_AS(second.rows({3}), Error);
}

TEST_CASE("stretches of the whole tell where in the part they lie") {
  for (const RankPart& part :
       {Share{1, 2}.rows({4, 2}), Share{1, 3}.columns({6}), Share{0, 2}.columns({2, 4}), RankPart()}) {
    Tensor whole = Tensor::empty({6, 6});
    for (int64_t i = 0; i < 36; ++i) whole.data<float>()[i] = static_cast<float>(i);
    const Tensor expected = take_part(whole, part), found = Tensor::zeros(expected.shape());
    int64_t next = 0;
    for_each_stretch(part, whole.shape(), [&](int64_t count, int64_t at) {
      for (int64_t i = 0; i < count; ++i, ++next)
        if (at >= 0) found.data<float>()[at + i] = static_cast<float>(next);
    });
    CHECK(next == 36);
    CHECK(relative_error(found, expected) == 0);
  }
}

TEST_CASE("bits of masks are divided as their matrix") {
  const Bitmask whole = some_bits(12, 21 * 3);
  for (const RankPart& part : {Share{1, 3}.rows({9, 3}), Share{2, 3}.columns({63})}) {
    const Bitmask made = Bitmask::zeros(12, 63);
    int64_t kept = 0;
    for (int rank = 0; rank < 3; ++rank) {
      const Bitmask own = take_part(whole, part.of_rank(rank));
      CHECK(own.padding_is_zero());
      kept += own.count();
      put_part(own, part.of_rank(rank), made);
    }
    CHECK(kept == whole.count());
    CHECK(count_differences(made, whole) == 0);
  }
  CHECK_FALSE(take_part(Bitmask(), Share{1, 3}.rows({9})));
}

TEST_CASE("a part of a weight has its numbers, mask and form") {
  const Tensor values = random_tensor({128, 128}, 1);
  QuantizedMatrix integers;
  integers.rows = integers.cols = 128;
  integers.group = 32;
  integers.element = kernels::element_named("int8");
  integers.integers = Tensor::empty({128, 128}, DType::i8);
  for (int64_t i = 0; i < 128 * 128; ++i) integers.integers.data<int8_t>()[i] = static_cast<int8_t>(i * 7 % 255 - 127);
  integers.scales = Tensor::empty({128, 4});
  for (int64_t i = 0; i < 128 * 4; ++i) integers.scales.data<float>()[i] = static_cast<float>(1 + i % 4) / 64;
  const std::vector<std::shared_ptr<Weight>> weights = {
      std::make_shared<DenseWeight>(values.clone()),
      std::make_shared<DenseWeight>(values.clone(), some_bits(128, 128)),
      pack_bf16(values, {}),
      pack_bf16(values, some_bits(128, 128)),
      with_activation_bits(*pack_integers(integers), 8),
      pack_integers(integers)};
  for (const auto& weight : weights)
    for (const RankPart& part : {Share{1, 2}.rows({64, 64}), Share{1, 2}.columns({128})}) {
      CAPTURE(weight->form());
      const std::shared_ptr<Weight> own = part_of(weight, part, "w");
      CHECK(own->element() == weight->element());
      CHECK(own->trainable() == weight->trainable());
      CHECK(own->activation_bits() == weight->activation_bits());
      CHECK(relative_error(own->to_dense(), take_part(weight->to_dense(), part)) == 0);
      CHECK(static_cast<bool>(own->mask()) == static_cast<bool>(weight->mask()));
      CHECK(own->pruned() + part_of(weight, part.of_rank(0), "w")->pruned() == weight->pruned());
    }
  // Groups of 32 do not divide into columns of 16.
  CHECK_THROWS_AS(part_of(weights.back(), Share{0, 8}.columns({128}), "w"), Error);
}

TEST_CASE("of many things each rank has some whole") {
  for (const int rank : {0, 1, 2}) {
    const Share share{rank, 3};
    CHECK(share.of(6) == 2);
    CHECK(share.first(6) == 2 * rank);
    for (int64_t i = 0; i < 6; ++i) {
      const RankPart part = share.thing(i, 6);
      CHECK(part.holder == i / 2);
      CHECK(part.first() == i / 2);
      CHECK(part.here() == (i / 2 == rank));
      CHECK(part.differs());
      CHECK_FALSE(part.divided());
      const Tensor whole = random_tensor({3, 5}, 1);
      const Tensor taken = take_part(whole, part);
      CHECK(taken.shape() == whole.shape());
      CHECK(taken.promised() == !part.here());
      if (part.here()) CHECK(relative_error(taken, whole) == 0);
      CHECK(whole_shape(part, {3, 5}) == Shape{3, 5});
    }
  }
  CHECK(Share{}.thing(3, 6).here());
  CHECK_FALSE(Share{}.thing(3, 6).differs());
  CHECK_THROWS_AS((Share{0, 4}.thing(0, 6)), Error);
}
