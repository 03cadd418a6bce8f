#include "io/weight_spill.h"

#include <doctest/doctest.h>

#include "base/random.h"
#include "support/scratch.h"
#include "weights/dense_weight.h"
#include "weights/packed_weight.h"

using namespace hone;

namespace {

Tensor random_matrix(int64_t rows, int64_t cols) {
  Random random(7, "spill");
  Tensor t = Tensor::empty({rows, cols});
  for (float& x : t.span<float>()) x = static_cast<float>(random.normal());
  return t;
}

Bitmask every_third(int64_t rows, int64_t cols) {
  Bitmask mask = Bitmask::zeros(rows, cols);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r % 3; c < cols; c += 3) mask.set(r, c);
  return mask;
}

void check_same(const Weight& a, const Weight& b) {
  CHECK(a.form() == b.form());
  CHECK(a.element() == b.element());
  CHECK(a.nonzeros() == b.nonzeros());
  CHECK(a.pruned() == b.pruned());
  const Encoded x = a.encode(), y = b.encode();
  REQUIRE(x.arrays.size() == y.arrays.size());
  for (const auto& [name, array] : x.arrays) {
    const Tensor& other = y.arrays.at(name);
    CHECK(array.shape() == other.shape());
    CHECK(std::equal(array.raw(), array.raw() + array.bytes(), other.raw()));
  }
  const Tensor dense = a.to_dense(), again = b.to_dense();
  CHECK(std::equal(dense.raw(), dense.raw() + dense.bytes(), again.raw()));
}

}  // namespace

TEST_CASE("a weight in the spill is the weight that was put there, in every form") {
  const test::Scratch folder;
  const int64_t rows = 70, cols = 90;
  const Bitmask mask = every_third(rows, cols);
  const Tensor values = random_matrix(rows, cols);
  const std::vector<std::shared_ptr<Weight>> weights = {std::make_shared<DenseWeight>(values.clone()),
                                                        std::make_shared<DenseWeight>(values.clone(), mask),
                                                        pack_bf16(values, {}), pack_bf16(values, mask)};
  WeightSpill spill(folder / "m.h5");
  std::vector<std::shared_ptr<Weight>> put;
  for (const auto& weight : weights) put.push_back(spill.put(weight));
  for (size_t i = 0; i < weights.size(); ++i) {
    CHECK(put[i] != weights[i]);
    check_same(*put[i], *weights[i]);
  }
  CHECK(folder.files() == 0);  // the spill has no name
}

TEST_CASE("without a place for the spill weights stay where they are") {
  const test::Scratch folder;
  WeightSpill spill(folder / "missing/m.h5");
  const auto weight = std::make_shared<DenseWeight>(random_matrix(3, 5));
  CHECK(spill.put(weight) == weight);
}
