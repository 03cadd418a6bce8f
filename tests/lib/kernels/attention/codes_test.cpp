// Caches of codes: what they hold by the definition of cache_code.h, and decoding from them.
#include <bit>
#include <cstring>

#include "base/cpu.h"
#include "kernels/attention/attention.h"
#include "lib/kernels/attention/attention_case.h"
#include "support/isa.h"

using namespace hone;
using namespace hone::kernels;
using namespace hone::kernels::test;

namespace {

// What the bytes of a row say of number n, without the scale: a second definition of each code, beside its file.
double said_by_codes(CacheCode code, const uint8_t* row, int64_t n) {
  if (info_of(code).name == "int8") return static_cast<int8_t>(row[n]);
  if (info_of(code).name == "int4") return (row[n / 32 * 16 + n % 16] >> (n % 32 >= 16 ? 4 : 0) & 15) - 7.5;
  FAIL("write down what the bytes of this code say");
  return 0;
}

int64_t bits_of(CacheCode code) {
  return 8 * info_of(code).bytes / info_of(code).numbers;
}

// Keys or values of [batch][heads][rows] and their codes.
struct Coded {
  CacheCode code;
  int64_t batch, heads, rows, head_dim, row_bytes, scale_rows;
  Buffer plain;  // f32 or bf16
  std::vector<uint8_t> codes;
  std::vector<bf16> scales;
  Buffer held;  // f32: what the codes say

  Coded(CacheCode c, DType type, int64_t b, int64_t h, int64_t r, int64_t dim, uint64_t seed)
      : code(c),
        batch(b),
        heads(h),
        rows(r),
        head_dim(dim),
        row_bytes(code_row_bytes(c, dim)),
        scale_rows((r + 63) / 64 * 64),
        plain(type, b * h * r * dim),
        codes(static_cast<size_t>(b * h * r * row_bytes)),
        scales(static_cast<size_t>(b * h * scale_rows), bf16{0x7fc0}),  // NaN where none is written
        held(DType::f32, plain.size()) {
    Random random(seed, "codes");
    plain.randomize(random);
    for (int64_t i = 0; i < plain.size(); i += dim)
      plain.set(i + 3, 9 * plain.get(i + 3));  // a channel that stands out
  }
  HeadRows rows_of(Buffer& buffer, int64_t sequence = 0) {
    return buffer.rows(sequence * heads * rows * head_dim, heads * rows * head_dim, head_dim, rows * head_dim);
  }
  HeadRows code_rows() { return {codes.data(), DType::u8, heads * rows * row_bytes, row_bytes, rows * row_bytes}; }
  HeadRows scale_of_rows() { return {scales.data(), DType::bf16, heads * scale_rows, 1, scale_rows}; }
  CodedRows at(int64_t sequence) {
    return {code, starting_at(code_rows(), sequence, 0), starting_at(scale_of_rows(), sequence, 0)};
  }
  void encode() {
    for (int64_t b = 0; b < batch; ++b) encode_cache(rows_of(plain, b), at(b), 0, rows, heads, head_dim);
  }
  void decode() {
    for (int64_t b = 0; b < batch; ++b) decode_cache(at(b), 0, rows_of(held, b), rows, heads, head_dim);
  }

  // Number d of row r (of all heads of all sequences) by the definition.
  double by_definition(int64_t r, int64_t d) const {
    const int64_t block = head_dim & -head_dim, first = d - d % block;
    const uint8_t* row = codes.data() + r * row_bytes;
    const auto scale = static_cast<double>(to_float(scales[static_cast<size_t>(r / rows * scale_rows + r % rows)]));
    double sum = 0;
    for (int64_t j = 0; j < block; ++j) {
      const double value = said_by_codes(code, row, first + j);
      sum += std::popcount(static_cast<uint64_t>(j & (d % block))) % 2 ? -value : value;
    }
    return sum * scale / std::sqrt(static_cast<double>(block));
  }
};

double relative_rms(const Buffer& a, const Buffer& b) {
  double error = 0, size = 0;
  for (int64_t i = 0; i < a.size(); ++i) {
    const double x = static_cast<double>(a.get(i)), y = static_cast<double>(b.get(i));
    error += (x - y) * (x - y);
    size += y * y;
  }
  return std::sqrt(error / size);
}

}  // namespace

TEST_CASE("codes read back by their names, and rows take whole bytes") {
  for (const CacheCode code : all_cache_codes) {
    CAPTURE(std::string(info_of(code).name));
    CHECK(find_cache_code(info_of(code).name) == code);
    CHECK(code != CacheCode::none);
    CHECK(info_of(code).numbers % 16 == 0);
    CHECK(code_row_bytes(code, 1) == info_of(code).bytes);
    CHECK(code_row_bytes(code, 3 * info_of(code).numbers) == 3 * info_of(code).bytes);
  }
  CHECK(!find_cache_code("same"));
}

TEST_CASE("codes of rows are what their definition says, and near the rows, at every instruction set") {
  hone::test::at_every_isa([&] {
    for (const CacheCode code : all_cache_codes)
      for (const DType type : {DType::f32, DType::bf16})
        for (const int64_t head_dim : {16, 40, 96, 128}) {
          CAPTURE(std::string(info_of(code).name));
          CAPTURE(head_dim);
          Coded c(code, type, 1, 2, 20, head_dim, 3);
          c.encode();
          c.decode();
          double worst = 0;
          for (int64_t i = 0; i < c.held.size(); ++i)
            worst = std::max(
                worst, std::abs(c.by_definition(i / head_dim, i % head_dim) - static_cast<double>(c.held.get(i))));
          CHECK(worst < 1e-5);
          CHECK(relative_rms(c.held, c.plain) < 1.5 * std::exp2(1.0 - static_cast<double>(bits_of(code))));
        }
  });
}

TEST_CASE("rotation keeps the numbers beside a large one: without it their error would be that of the largest") {
  Coded c(cache_code_named("int4"), DType::f32, 1, 1, 64, 64, 5);
  for (int64_t r = 0; r < 64; ++r) c.plain.set(r * 64 + 3, 40);
  c.encode();
  c.decode();
  double error = 0;
  for (int64_t i = 0; i < c.held.size(); ++i) {
    const double e = static_cast<double>(c.held.get(i) - c.plain.get(i));
    error += e * e;
  }
  const double plain_step = 40 / 7.5;  // of codes that reach 40: numbers of size 1 would all be lost
  CHECK(std::sqrt(error / static_cast<double>(c.held.size())) < plain_step / std::sqrt(12.0) / 2.5);
}

TEST_CASE("rows of zeros are zeros, and what is not finite shows in its own row alone") {
  for (const CacheCode code : all_cache_codes) {
    Coded c(code, DType::f32, 1, 1, 3, 32, 7);
    for (int64_t d = 0; d < 32; ++d) c.plain.set(d, 0);
    c.plain.set(32 + 5, INFINITY);
    c.encode();
    c.decode();
    for (int64_t d = 0; d < 32; ++d) {
      CHECK(c.held.get(d) == 0);
      CHECK(std::isnan(c.held.get(32 + d)));
      CHECK(std::isfinite(c.held.get(64 + d)));
    }
  }
}

TEST_CASE("decoding from codes is decoding from what they say, at every instruction set") {
  constexpr MaskRule rules[] = {{}, {.window = 70, .sinks = 3}};
  hone::test::at_every_isa([&] {
    for (const CacheCode code : all_cache_codes)
      for (const DType q_type : {DType::f32, DType::bf16})
        for (const MaskRule& rule : rules)
          for (const int64_t head_dim : {16, 40, 64, 128}) {
            CAPTURE(std::string(info_of(code).name));
            CAPTURE(head_dim);
            const int64_t batch = 3, heads = 3, kv_heads = 1, queries = 2, rows = 200;
            const std::vector<int64_t> lengths = {2, 65, 200};
            Coded k(code, DType::f32, batch, kv_heads, rows, head_dim, 11),
                v(code, DType::f32, batch, kv_heads, rows, head_dim, 12);
            for (Coded* c : {&k, &v}) c->encode(), c->decode();
            Random random(13, "queries");
            Buffer q(q_type, batch * queries * heads * head_dim), out(q_type, q.size()), expected(q_type, q.size());
            q.randomize(random);
            const auto row_of = [&](Buffer& b, int64_t sequence = 0) {
              const int64_t row = heads * head_dim;
              return b.rows(sequence * queries * row, queries * row, row, head_dim);
            };
            DecodeDims d;
            d.batch = batch;
            d.queries = queries;
            d.heads = heads;
            d.kv_heads = kv_heads;
            d.head_dim = head_dim;
            d.scale = 1 / std::sqrt(static_cast<float>(head_dim));
            d.rule = rule;
            if (head_dim == 40) d.score = {score_named("softcap"), 1.5f};
            if (head_dim == 64) d.score = alibi(heads);
            d.key_lengths = lengths.data();
            d.code = code;
            d.k_scales = k.scale_of_rows();
            d.v_scales = v.scale_of_rows();
            attention_decode(d, row_of(q), k.code_rows(), v.code_rows(), row_of(out));
            for (int64_t b = 0; b < batch; ++b) {
              const int64_t length = lengths[static_cast<size_t>(b)];
              AttentionDims a{1, queries, length, heads, kv_heads, head_dim, d.scale, length - queries, d.score};
              attention_forward_reference(a, row_of(q, b), k.rows_of(k.held, b), v.rows_of(v.held, b),
                                          row_of(expected, b), nullptr, reference_mask(a, rule));
            }
            CHECK(relative_error(out, expected) < (q_type == DType::f32 ? 2e-5 : 5e-3));
          }
  });
}
