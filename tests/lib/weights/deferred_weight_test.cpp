#include "weights/deferred_weight.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/error.h"
#include "base/random.h"
#include "weights/dense_weight.h"
#include "weights/packed_weight.h"

using namespace hone;

namespace {

constexpr int64_t rows = 70, cols = 40;

Tensor numbers(Shape shape) {
  Random random(1, "deferred");
  Tensor t = Tensor::empty(std::move(shape));
  for (float& x : t.span<float>()) x = static_cast<float>(random.normal());
  return t;
}

Bitmask half() {
  const Bitmask mask = Bitmask::zeros(rows, cols);
  for (uint8_t& byte : mask.bits().span<uint8_t>()) byte = 0x35;
  return mask;
}

std::vector<std::shared_ptr<Weight>> every_form() {
  return {std::make_shared<DenseWeight>(numbers({rows, cols})),
          std::make_shared<DenseWeight>(numbers({rows, cols}), half()), pack_bf16(numbers({rows, cols}), {}),
          pack_bf16(numbers({rows, cols}), half())};
}

// As a file holds it, with what is called before the arrays are read.
std::shared_ptr<Weight> deferred(const Weight& weight, std::function<void()> verify) {
  Encoded encoded = weight.encode();
  encoded.verify = std::move(verify);
  return decode_weight(encoded, "w");
}

}  // namespace

TEST_CASE("what a file says of a weight is known before it is read") {
  for (const auto& weight : every_form()) {
    CAPTURE(weight->form());
    Encoded encoded = weight->encode();
    encoded.attributes[nonzeros_attribute] = weight->nonzeros();
    int reads = 0;
    encoded.verify = [&reads] { ++reads; };
    const auto later = decode_weight(encoded, "w");
    CHECK(later->rows() == rows);
    CHECK(later->cols() == cols);
    CHECK(later->form() == weight->form());
    CHECK(later->element() == weight->element());
    CHECK(later->stored_bytes() == weight->stored_bytes());
    CHECK(later->nonzeros() == weight->nonzeros());
    CHECK(reads == 0);
  }
}

TEST_CASE("it is verified once, by whichever thread is first, and computes the same") {
  for (const auto& weight : every_form()) {
    CAPTURE(weight->form());
    std::atomic<int> reads = 0;
    const auto later = deferred(*weight, [&reads] { ++reads; });
    const Tensor x = numbers({3, cols}), expected = Tensor::empty({3, rows});
    weight->matmul(x.view(), expected.view());
    std::vector<Tensor> results;
    for (int i = 0; i < 4; ++i) results.push_back(Tensor::empty({3, rows}));
    std::vector<std::thread> threads;
    for (const Tensor& y : results)
      threads.emplace_back([&, y] {
        const std::vector<int32_t> ids = {0, 69, 7};
        const Tensor out = Tensor::empty({3, cols});
        later->gather(ids, out.view());
        std::copy_n(out.data<float>(), out.size(), y.data<float>());
      });
    for (std::thread& thread : threads) thread.join();
    for (const Tensor& y : results)
      CHECK(std::equal(y.data<float>(), y.data<float>() + 3 * cols, results[0].data<float>()));
    const Tensor y = Tensor::empty({3, rows});
    later->matmul(x.view(), y.view());
    CHECK(std::ranges::equal(y.span<float>(), expected.span<float>()));
    CHECK(reads == 1);
    CHECK(later->nonzeros() == weight->nonzeros());
    CHECK(static_cast<bool>(later->mask()) == static_cast<bool>(weight->mask()));
    CHECK_FALSE(later->encode().verify);
    CHECK(reads == 1);
  }
}

TEST_CASE("what is let go of is decoded again, not compared again, and counted once; what may have changed stays") {
  for (const auto& weight : every_form()) {
    CAPTURE(weight->form());
    Encoded encoded = weight->encode();
    encoded.attributes[nonzeros_attribute] = 1;  // what a file of somebody else may say
    int reads = 0;
    encoded.verify = [&reads] { ++reads; };
    const auto later = decode_weight(encoded, "w");
    CHECK(later->nonzeros() == 1);
    const Tensor before = later->to_dense();
    CHECK(later->nonzeros() == weight->nonzeros());
    later->let_go();
    CHECK(later->nonzeros() == weight->nonzeros());
    CHECK(std::ranges::equal(later->to_dense().span<float>(), before.span<float>()));
    CHECK(reads == 1);
    if (!later->trainable()) continue;
    later->parameter()->version = 17;
    later->let_go();
    CHECK(later->parameter()->version == 17);
  }
}

TEST_CASE("damage is told at every use; counts that cannot be are not believed") {
  const DenseWeight weight(numbers({rows, cols}));
  const auto bad = deferred(weight, [] { throw input_error("damaged"); });
  CHECK(bad->rows() == rows);
  for (int i = 0; i < 2; ++i) CHECK_THROWS_WITH_AS(bad->to_dense(), "damaged", Error);
  for (const int64_t told : {int64_t{-1}, rows * cols + 1}) {
    Encoded encoded = weight.encode();
    encoded.attributes[nonzeros_attribute] = told;
    encoded.verify = [] {};
    CHECK(decode_weight(encoded, "w")->nonzeros() == rows * cols);
  }
  Encoded encoded = weight.encode();
  encoded.verify = [] {};
  encoded.form = "folded";
  CHECK_THROWS_AS(decode_weight(encoded, "w"), Error);
}
