// Packed weights as weights: what is packed comes back, encoding round-trips byte for byte, and damaged arrays are
// refused.
#include "weights/packed_weight.h"

#include <doctest/doctest.h>
#include <cmath>
#include <limits>

#include <cstring>
#include <functional>

#include "base/error.h"
#include "base/random.h"
#include "support/elements.h"
#include "weights/dense_weight.h"

using namespace hone;
using kernels::PackedElement;

namespace {

Bitmask random_mask(int64_t rows, int64_t cols, double keep, Random& random) {
  const Bitmask mask = Bitmask::zeros(rows, cols);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c)
      if (random.uniform() < keep) mask.set(r, c);
  return mask;
}

bool kept(const Bitmask& mask, int64_t r, int64_t c) {
  return !mask || mask.at(r, c);
}

constexpr PackedElement int8 = kernels::element_named("int8"), int4 = kernels::element_named("int4");

QuantizedMatrix random_matrix(int64_t rows, int64_t cols, int64_t group, PackedElement element, double keep) {
  Random random(static_cast<uint64_t>(rows * 1000 + cols + group), "packed");
  QuantizedMatrix q{rows, cols, group, element, Tensor::empty({rows, cols}, DType::i8), {}, {}};
  const int64_t groups = group ? (cols + group - 1) / group : 1;
  for (auto& v : q.integers.span<int8_t>()) v = test::random_integer(element, random);
  q.scales = Tensor::empty({rows, groups});
  for (auto& s : q.scales.span<float>()) s = to_float(to_bf16(static_cast<float>(0.001 + 0.01 * random.uniform())));
  if (keep < 1) q.mask = random_mask(rows, cols, keep, random);
  return q;
}

float expected(const QuantizedMatrix& q, int64_t r, int64_t c) {
  if (!kept(q.mask, r, c)) return 0;
  const int64_t groups = q.scales.dim(1), g = q.group ? c / q.group : 0;
  const float number = kernels::info_of(q.element).number_of(q.integers.data<int8_t>()[r * q.cols + c]);
  return number * q.scales.data<float>()[r * groups + g];
}

void check_round_trip(const Weight& w) {
  const Encoded once = w.encode();
  const auto again = decode_packed(once, "test");
  const Encoded twice = again->encode();
  CHECK(twice.form == once.form);
  CHECK(twice.element == once.element);
  CHECK(twice.shape == once.shape);
  CHECK(twice.attributes == once.attributes);
  REQUIRE(twice.arrays.size() == once.arrays.size());
  for (const auto& [name, array] : once.arrays) {
    const Tensor& other = twice.arrays.at(name);
    CHECK(other.raw() == array.raw());  // no copy was made
    CHECK(other.shape() == array.shape());
  }
  const Tensor a = w.to_dense(), b = again->to_dense();
  CHECK(std::memcmp(a.raw(), b.raw(), a.bytes()) == 0);
}

// Packing what was unpacked gives the same bytes.
void check_same_arrays(const Encoded& a, const Encoded& b) {
  REQUIRE(a.arrays.size() == b.arrays.size());
  for (const auto& [name, array] : a.arrays) {
    REQUIRE(array.bytes() == b.arrays.at(name).bytes());
    CHECK(std::memcmp(array.raw(), b.arrays.at(name).raw(), array.bytes()) == 0);
  }
}

}  // namespace

TEST_CASE("packed integers come back as they went in") {
  for (const PackedElement element : kernels::all_elements)
    for (const int64_t group : {0, 32, 64, 128})
      for (const double keep : {1.0, 0.95, 0.4, 0.0})
        for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 7}, {63, 32}, {65, 100}, {200, 384}}) {
          const kernels::ElementInfo& info = kernels::info_of(element);
          if (!info.scaled) continue;
          INFO(info.name, " ", group, " ", keep, " ", rows, " ", cols);
          const QuantizedMatrix q = random_matrix(rows, cols, group, element, keep);
          const auto w = pack_integers(q);
          CHECK(w->rows() == rows);
          CHECK(w->cols() == cols);
          CHECK(w->element() == info.name);
          if (keep <= 0.4 && rows > 1) CHECK(w->form() == "bitmask");  // of one row more may be kept, by chance
          if (keep == 1.0) CHECK(w->form() == "panels");
          const Tensor dense = w->to_dense();
          const Bitmask mask = w->mask();
          CHECK(static_cast<bool>(mask) == static_cast<bool>(q.mask));
          if (mask) CHECK(std::memcmp(mask.data(), q.mask.data(), mask.bits().bytes()) == 0);
          int64_t wrong = 0, nonzeros = 0;
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t c = 0; c < cols; ++c) {
              wrong += dense.data<float>()[r * cols + c] != expected(q, r, c);
              nonzeros += expected(q, r, c) != 0;
            }
          CHECK(wrong == 0);
          CHECK(w->nonzeros() == nonzeros);
          check_round_trip(*w);
          check_same_arrays(w->encode(), pack_integers(q)->encode());
        }
}

TEST_CASE("packed bf16 comes back rounded once") {
  Random random(5, "packed");
  for (const double keep : {1.0, 0.97, 0.5}) {
    const int64_t rows = 130, cols = 75;
    Tensor dense = Tensor::empty({rows, cols});
    for (auto& v : dense.span<float>()) v = static_cast<float>(random.normal());
    const Bitmask mask = keep < 1 ? random_mask(rows, cols, keep, random) : Bitmask();
    const auto w = pack_bf16(dense, mask);
    CHECK(w->form() == (keep < 0.9 ? "bitmask" : "panels"));
    const Tensor back = w->to_dense();
    int64_t wrong = 0;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c)
        wrong += back.data<float>()[r * cols + c] !=
                 (kept(mask, r, c) ? to_float(to_bf16(dense.data<float>()[r * cols + c])) : 0.0f);
    CHECK(wrong == 0);
    check_round_trip(*w);
  }
}

TEST_CASE("a sparse weight is smaller by what its mask leaves out") {
  const auto dense = pack_integers(random_matrix(768, 768, 0, int8, 1.0));
  const auto sparse = pack_integers(random_matrix(768, 768, 0, int8, 0.4));
  const double ratio = static_cast<double>(sparse->stored_bytes()) / static_cast<double>(dense->stored_bytes());
  CHECK(ratio == doctest::Approx(0.4 + 0.125).epsilon(0.02));
}

TEST_CASE("a lookup takes rows in any order, f32 or bf16") {
  const auto w = pack_integers(random_matrix(100, 48, 32, int4, 0.5));
  const Tensor dense = w->to_dense();
  const std::vector<int32_t> ids = {99, 0, 63, 64, 0};
  Tensor out = Tensor::empty({5, 48}), half = Tensor::empty({5, 48}, DType::bf16);
  w->gather(ids, out.view());
  w->gather(ids, half.view());
  for (size_t i = 0; i < ids.size(); ++i)
    for (int64_t c = 0; c < 48; ++c) {
      const float value = dense.data<float>()[ids[i] * 48 + c];
      CHECK(out.data<float>()[static_cast<int64_t>(i) * 48 + c] == value);
      CHECK(half.data<bf16>()[static_cast<int64_t>(i) * 48 + c].bits == to_bf16(value).bits);
    }
}

TEST_CASE("what has no code is not packed") {
  for (const PackedElement element : kernels::all_elements) {
    const kernels::ElementInfo& info = kernels::info_of(element);
    CAPTURE(info.name);
    QuantizedMatrix q = random_matrix(4, 8, 0, info.scaled ? element : int8, 1.0);
    q.element = element;
    for (int v = -128; v < 128; ++v) {
      q.integers.data<int8_t>()[3] = static_cast<int8_t>(v);
      if (info.scaled && info.code_of(v) >= 0) {
        CHECK_NOTHROW(pack_integers(q));
      } else {
        CHECK_THROWS_AS(pack_integers(q), Error);
      }
    }
  }
}

TEST_CASE("a matrix of integers has activation bits stored with it, which a rounding may replace") {
  const auto packed = pack_integers(random_matrix(70, 50, 32, int4, 0.4));
  CHECK(packed->activation_bits() == 16);
  CHECK(!packed->encode().attributes.contains(activation_bits_attribute));
  const auto eight = with_activation_bits(*packed, 8);
  CHECK(eight->activation_bits() == 8);
  CHECK(eight->packed(DType::bf16)->rounding.integer_bits() == 8);
  check_round_trip(*eight);
  CHECK(eight->encode().arrays.at("values").raw() == packed->encode().arrays.at("values").raw());
  eight->set_rounding({kernels::F32Activations::integers, 16});
  CHECK(eight->activation_bits() == 16);
  eight->set_rounding({kernels::F32Activations::integers});
  CHECK(eight->activation_bits() == 8);
  CHECK(eight->packed(DType::bf16)->rounding.f32 == kernels::F32Activations::integers);
  CHECK(eight->encode().attributes.at(activation_bits_attribute) == 8);
  packed->set_rounding({kernels::F32Activations::exact, 8});
  CHECK(packed->activation_bits() == 8);
  CHECK(!packed->encode().attributes.contains(activation_bits_attribute));
  const auto numbers = pack_bf16(Tensor::zeros({8, 8}), {});
  numbers->set_rounding({kernels::F32Activations::exact, 8});
  CHECK(numbers->activation_bits() == 16);
}

TEST_CASE("a packed weight cannot be trained through") {
  const auto w = pack_integers(random_matrix(4, 8, 0, int8, 1.0));
  Tensor dy = Tensor::zeros({1, 4}), dx = Tensor::zeros({1, 8});
  CHECK(w->parameter() == nullptr);
  CHECK_THROWS_AS(w->matmul_dx(dy.view(), dx.view()), Error);
}

TEST_CASE("damaged arrays are refused") {
  const auto refused = [](const QuantizedMatrix& q, const std::function<void(Encoded&)>& damage) {
    Encoded encoded = pack_integers(q)->encode();
    for (auto& [name, array] : encoded.arrays) array = array.clone();
    CHECK_NOTHROW(decode_packed(encoded, "block.0"));
    damage(encoded);
    try {
      decode_packed(encoded, "block.0");
      FAIL_CHECK("accepted");
    } catch (const Error& e) {
      CHECK(e.kind() == ErrorKind::input);
      CHECK(std::string(e.what()).find("block.0") != std::string::npos);
    }
  };
  const auto sparse = random_matrix(70, 50, 32, int4, 0.4), dense = random_matrix(70, 50, 32, int4, 1.0),
             almost = random_matrix(70, 50, 32, int4, 0.9);
  const auto shorter = [](Encoded& e, const char* name) {
    Tensor& t = e.arrays.at(name);
    t = Tensor::over(Storage::allocate(t.bytes()), 0, {t.size() - 1}, t.dtype());
  };
  for (const char* name : {"values", "mask", "offsets", "scales"}) {
    CAPTURE(name);
    refused(sparse, [&](Encoded& e) { e.arrays.erase(name); });
    refused(sparse, [&](Encoded& e) { shorter(e, name); });
    refused(sparse, [&](Encoded& e) { e.arrays.at(name) = Tensor::zeros({e.arrays.at(name).size()}, DType::i64); });
  }
  for (const char* name : {"values", "scales"}) {
    refused(dense, [&](Encoded& e) { e.arrays.erase(name); });
    refused(dense, [&](Encoded& e) { shorter(e, name); });
  }
  refused(almost, [&](Encoded& e) { shorter(e, "kept"); });
  // More values marked than stored; in the matrix, then in its padding.
  refused(sparse, [](Encoded& e) { std::memset(e.arrays.at("mask").raw(), 255, 8); });
  refused(sparse, [](Encoded& e) {
    const Tensor& mask = e.arrays.at("mask");
    mask.data<uint8_t>()[mask.size() - 1] |= 0x80;
    e.arrays.at("offsets").data<uint64_t>()[2] += 1;
  });
  refused(sparse, [](Encoded& e) { e.arrays.at("offsets").data<uint64_t>()[1] += 1; });
  refused(sparse, [](Encoded& e) { e.arrays.at("offsets").data<uint64_t>()[0] = ~uint64_t{0}; });
  refused(sparse, [](Encoded& e) { e.arrays.at("offsets").data<uint64_t>()[2] = uint64_t{1} << 60; });
  refused(sparse, [](Encoded& e) { e.attributes["group"] = 7; });
  refused(sparse, [](Encoded& e) { e.attributes["group"] = -32; });
  refused(sparse, [](Encoded& e) { e.attributes[activation_bits_attribute] = 4; });
  refused(dense, [](Encoded& e) { e.attributes[activation_bits_attribute] = -8; });
  refused(sparse, [](Encoded& e) { e.shape = {70}; });
  refused(sparse, [](Encoded& e) { e.shape = {70, 0}; });
  refused(sparse, [](Encoded& e) { e.shape = {int64_t{1} << 62, int64_t{1} << 62}; });
  refused(sparse, [](Encoded& e) { e.shape = {1000000, 50}; });
  refused(sparse, [](Encoded& e) { e.form = "panel"; });
  refused(sparse, [](Encoded& e) { e.element = "int5"; });
}

TEST_CASE("masks are bytes, lowest first; those of format 1, of 32 and 64 bits, are read and become bytes") {
  Random random(3, "masks");
  const Bitmask bits = random_mask(70, 50, 0.4, random);
  const auto check = [&](const std::shared_ptr<Weight>& weight, DType old, int64_t tile_bytes) {
    const Encoded now = weight->encode();
    const Tensor mask = now.arrays.at("mask");
    CHECK(mask.dtype() == DType::u8);
    CHECK(mask.dim(3) == tile_bytes);
    Encoded before = now;
    before.arrays["mask"] = Tensor::empty({mask.dim(0), mask.dim(1), 4}, old);
    std::memcpy(before.arrays["mask"].raw(), mask.raw(), mask.bytes());
    const auto read = decode_weight(before, "old");
    CHECK(read->pruned() == weight->pruned());
    CHECK(std::memcmp(read->to_dense().raw(), weight->to_dense().raw(), 70 * 50 * sizeof(float)) == 0);
    CHECK(read->encode().arrays.at("mask").shape() == mask.shape());
    CHECK(read->encode().arrays.at("mask").dtype() == DType::u8);
    // Element (0, 0) is the lowest bit of the first byte.
    CHECK((mask.data<uint8_t>()[0] & 1) == (weight->mask().data()[0] & 1));
  };
  check(pack_integers(random_matrix(70, 50, 32, int8, 0.4)), DType::u64, 8);
  Tensor dense = Tensor::empty({70, 50});
  for (float& v : dense.span<float>()) v = static_cast<float>(random.normal());
  check(pack_bf16(dense, bits), DType::u32, 4);
}

TEST_CASE("what is pruned is counted by the mask, what is zero by the values") {
  Random random(4, "counts");
  const int64_t rows = 70, cols = 50;
  const Bitmask mask = random_mask(rows, cols, 0.4, random);
  const Tensor dense = Tensor::zeros({rows, cols});
  for (int64_t i = 0; i < rows * cols; i += 2) dense.data<float>()[i] = 1;
  const int64_t left_out = mask.left_out();
  for (const auto& weight :
       {std::shared_ptr<Weight>(std::make_shared<DenseWeight>(dense.clone(), mask)), pack_bf16(dense, mask)}) {
    int64_t values = 0;
    const Tensor decoded = weight->to_dense();
    for (const float x : decoded.span<float>()) values += x != 0;
    CHECK(weight->pruned() == left_out);
    CHECK(weight->nonzeros() == values);
    CHECK(weight->nonzeros() < rows * cols - left_out);
  }
  CHECK(DenseWeight(dense.clone()).pruned() == 0);
  CHECK(pack_bf16(dense, {})->pruned() == 0);
  const Bitmask almost = random_mask(rows, cols, 0.97, random);
  CHECK(pack_bf16(dense, almost)->form() == "panels");
  CHECK(pack_bf16(dense, almost)->pruned() == almost.left_out());
}

TEST_CASE("numbers that are not finite are counted in the arrays of every form") {
  Tensor dense = Tensor::zeros({70, 50});
  CHECK(count_nonfinite(DenseWeight(dense.clone()).encode()) == 0);
  dense.data<float>()[7] = std::nanf("");
  dense.data<float>()[9] = -std::numeric_limits<float>::infinity();
  CHECK(count_nonfinite(DenseWeight(dense.clone()).encode()) == 2);
  CHECK(count_nonfinite(pack_bf16(dense, {})->encode()) == 2);
  Encoded packed = pack_integers(random_matrix(70, 50, 32, int8, 0.4))->encode();
  CHECK(count_nonfinite(packed) == 0);
  packed.arrays["scales"] = packed.arrays["scales"].clone();
  packed.arrays["scales"].data<bf16>()[3].bits = 0x7fc0;
  CHECK(count_nonfinite(packed) == 1);
}
