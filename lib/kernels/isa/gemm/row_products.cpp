// Tiles of f32 products. Lanes go along the contraction: a number is made of eight partial sums, of the terms 0, 8, 16
// … to 7, 15, 23 …, which are added in one fixed way at the end. So both operands are read as they lie, one row at the
// speed of the cache, and a number has the same bits whatever stands beside it. Three rows meet four outputs, 12 sums
// in registers for 7 loads.
#include "kernels/isa/gemm/row_products.h"

#include "kernels/isa/vector_math.h"

namespace hone::kernels::HONE_ISA {

#if !defined(HONE_VECTOR_AVX512)
namespace {

constexpr int terms = RowProducts::terms, parts = terms / lanes, quad = RowProducts::outputs;
#if defined(HONE_VECTOR_AVX2)
constexpr int tallest = 3;
#elif defined(__aarch64__)
constexpr int tallest = 2;  // 16 of 32 registers are sums
#else
constexpr int tallest = 1;  // 8 of 16
#endif
// Up to so many rows are not worth a copy of what they meet.
constexpr int64_t few_rows = 24;

constexpr int64_t whole_terms(int64_t k) {
  return (k + terms - 1) / terms * terms;
}

struct Terms {
  Vec part[parts];
};

inline Terms load_terms(const float* from) {
  Terms t;
#pragma GCC unroll 2
  for (int i = 0; i < parts; ++i) t.part[i] = load(from + i * lanes);
  return t;
}

inline void store_terms(float* to, const Terms& t) {
#pragma GCC unroll 2
  for (int i = 0; i < parts; ++i) store(to + i * lanes, t.part[i]);
}

// The first `count` of them, zeros behind. Not inlined: a product behind a branch is not contracted with its sum.
[[gnu::noinline]] void pad_terms(const float* from, int64_t count, float* to) {
  for (int64_t i = 0; i < terms; ++i) to[i] = i < count ? from[i] : 0;
}

inline Terms load_terms(const float* from, int64_t count) {
  float padded[terms];
  pad_terms(from, count, padded);
  return load_terms(padded);
}

inline void add_product(Terms& sum, const Terms& x, const Terms& y) {
#if defined(HONE_VECTOR_AVX2)
  sum.part[0] = _mm256_fmadd_ps(x.part[0], y.part[0], sum.part[0]);
#else
#pragma GCC unroll 2
  for (int i = 0; i < parts; ++i) sum.part[i] += x.part[i] * y.part[i];
#endif
}

// The partial sums of four numbers, added up.
inline void add_up(const Terms* sums, float* to) {
#if defined(HONE_VECTOR_AVX2)
  const __m256 low = _mm256_hadd_ps(sums[0].part[0], sums[1].part[0]);
  const __m256 high = _mm256_hadd_ps(sums[2].part[0], sums[3].part[0]), pairs = _mm256_hadd_ps(low, high);
  _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
#elif defined(HONE_NEON)
  Vec each[quad];
#pragma GCC unroll 4
  for (int o = 0; o < quad; ++o) each[o] = sums[o].part[0] + sums[o].part[1];
  vst1q_f32(to, vpaddq_f32(vpaddq_f32(each[0], each[1]), vpaddq_f32(each[2], each[3])));
#else
  for (int o = 0; o < quad; ++o) {
    const Vec v = sums[o].part[0] + sums[o].part[1];
    to[o] = (v[0] + v[1]) + (v[2] + v[3]);
  }
#endif
}

// Rows where they lie in memory: the terms from k on of row i.
template <int Rows>
struct Apart {
  const float* row[Rows];

  Apart(const float* first, int64_t stride, int64_t count) {
    for (int i = 0; i < Rows; ++i) row[i] = first + (i < count ? i : count - 1) * stride;
  }
  Terms at(int i, int64_t k) const { return load_terms(row[i] + k); }
  Terms last(int i, int64_t k, int64_t count) const { return load_terms(row[i] + k, count); }
};

// Rows side by side, [k/8][Rows][8], of which `first` is the first of a tile.
template <int Rows>
struct Beside {
  const float* first;

  Terms at(int i, int64_t k) const { return load_terms(first + k * Rows + i * terms); }
  Terms last(int i, int64_t k, int64_t) const { return at(i, k); }
};

// What a tile begins with and where it leaves its sums: numbers of c, or partial sums that are taken up again.
struct Sums {
  float* c;
  int64_t c_stride, count;  // outputs that there are
  float* partial;           // [rows][4][8]
  bool first, last;         // block of the contraction
};

template <int Rows, int Outputs, class A, class B>
[[gnu::always_inline]] inline void tile(const A& a, const B& b, int64_t k, const Sums& s) {
  Terms sums[Rows][Outputs];
#pragma GCC unroll 4
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int o = 0; o < Outputs; ++o)
      sums[r][o] = s.first ? Terms{} : load_terms(s.partial + (r * Outputs + o) * terms);
  const int64_t whole = k / terms * terms;
  for (int64_t i = 0; i < whole; i += terms) {
    Terms left[Rows];
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) left[r] = a.at(r, i);
#pragma GCC unroll 8
    for (int o = 0; o < Outputs; ++o) {
      const Terms right = b.at(o, i);
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) add_product(sums[r][o], left[r], right);
    }
  }
  if (whole < k) {
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) {
      const Terms left = a.last(r, whole, k - whole);
#pragma GCC unroll 8
      for (int o = 0; o < Outputs; ++o) add_product(sums[r][o], left, b.last(o, whole, k - whole));
    }
  }
  if (!s.last) {
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
      for (int o = 0; o < Outputs; ++o) store_terms(s.partial + (r * Outputs + o) * terms, sums[r][o]);
    return;
  }
#pragma GCC unroll 4
  for (int r = 0; r < Rows; ++r) {
    float row[Outputs];
    float* to = s.c + r * s.c_stride;
#pragma GCC unroll 2
    for (int o = 0; o < Outputs; o += quad) add_up(sums[r] + o, (s.count < Outputs ? row : to) + o);
    for (int64_t o = 0; s.count < Outputs && o < s.count; ++o) to[o] = row[o];
  }
}

int64_t smaller(int64_t x, int64_t y) {
  return x < y ? x : y;
}

// Few rows: everything from where it lies.
template <int Rows, int Outputs>
void few(const RowProducts& p, int64_t row, int64_t output) {
  const int64_t count = smaller(Outputs, p.n - output);
  const Sums sums{p.c + row * p.c_stride + output, p.c_stride, count, nullptr, true, true};
  tile<Rows, Outputs>(Apart<Rows>(p.a + row * p.a_stride, p.a_stride, Rows),
                      Apart<Outputs>(p.b + output * p.b_stride, p.b_stride, count), p.k, sums);
}

// [k/8][Count][8] of Count rows, `k` terms of each; zeros stand for those behind, and for rows that there are not.
template <int Count>
void lay_beside(const float* rows, int64_t stride, int64_t count, int64_t k, float* to) {
  for (int r = 0; r < Count; ++r, to += terms) {
    const float* from = rows + r * stride;
    int64_t i = 0;
    for (; r < count && i + terms <= k; i += terms) store_terms(to + i * Count, load_terms(from + i));
    for (; i < k; i += terms) store_terms(to + i * Count, load_terms(from + i, r < count ? smaller(terms, k - i) : 0));
  }
}

// One pass over a block of the contraction: copied rows of a meet a panel.
struct Block {
  const RowProducts& p;
  const float* a;      // [m][k], as many rows side by side as a tile has
  const float* panel;  // [k/8][4][8]
  int64_t output, k;
  float* partial;  // [m][4][8]
  bool first, last;

  template <int Rows>
  void run(int64_t row) const {
    tile<Rows, quad>(Beside<Rows>{a + row * k}, Beside<quad>{panel}, k,
                     {p.c + row * p.c_stride + output, p.c_stride, smaller(quad, p.n - output),
                      partial + row * quad * terms, first, last});
  }
};

// f(row) of a whole tile, or of what is left at the end.
template <class F>
void each_tile(int64_t rows, const F& f) {
  int64_t r = 0;
  for (; r + tallest <= rows; r += tallest) f.template operator()<tallest>(r);
  if constexpr (tallest > 2)
    if (r + 2 == rows) return f.template operator()<2>(r);
  if constexpr (tallest > 1)
    if (r < rows) f.template operator()<1>(r);
}

void many(const RowProducts& p) {
  constexpr int64_t deepest = RowProducts::deepest;
  const int64_t padded = whole_terms(p.k), blocks = (padded + deepest - 1) / deepest;
  const int64_t depth = whole_terms((padded + blocks - 1) / blocks);
  float* a = p.room;
  float* copy = a + p.m * padded;
  float* partial = copy + quad * deepest;
  for (int64_t k = 0; k < padded; k += depth)
    each_tile(p.m, [&]<int Rows>(int64_t row) {
      lay_beside<Rows>(p.a + row * p.a_stride + k, p.a_stride, Rows, smaller(depth, p.k - k),
                       a + p.m * k + row * smaller(depth, padded - k));
    });
  for (int64_t output = 0; output < p.n; output += quad)
    for (int64_t k = 0; k < padded; k += depth) {
      const int64_t here = smaller(depth, padded - k);
      const float* panel = copy;
      if (p.held == Held::panels)
        panel = p.b + output * padded + k * quad;
      else
        lay_beside<quad>(p.b + output * p.b_stride + k, p.b_stride, smaller(quad, p.n - output),
                         smaller(depth, p.k - k), copy);
      const Block block{p, a + p.m * k, panel, output, here, partial, k == 0, k + here == padded};
      each_tile(p.m, [&]<int Rows>(int64_t row) { block.run<Rows>(row); });
    }
}

}  // namespace

void row_products(const RowProducts& p) {
  if (p.k > 0 && (p.held == Held::panels || p.m > few_rows)) return many(p);
  // Rows of b that are whole pages long compete for the same sets of the cache.
  if (p.m == 1 && p.b_stride % 1024 != 0)
    for (int64_t output = 0; output < p.n; output += 2 * quad) few<1, 2 * quad>(p, 0, output);
  else
    for (int64_t output = 0; output < p.n; output += quad)
      each_tile(p.m, [&]<int Rows>(int64_t row) { few<Rows, quad>(p, row, output); });
}

void turn_panels(const float* columns, int64_t groups, float* panels) {
  constexpr int outputs = RowProducts::expanded;
  for (int64_t g = 0; g < groups; ++g, columns += terms * outputs, panels += quad * terms)
    for (int o = 0; o < outputs; o += terms) {
#if defined(HONE_VECTOR_AVX2)
      Vec turned[terms];
      transpose8(columns + o, outputs, turned);
#pragma GCC unroll 8
      for (int i = 0; i < terms; ++i)
        store(panels + (o + i) / quad * (quad * terms * groups) + i % quad * terms, turned[i]);
#elif defined(HONE_NEON)
      for (int i = 0; i < terms; i += 4)
        for (int k = 0; k < terms; k += 4) {
          Vec turned[4];
          transpose4(columns + k * outputs + o + i, outputs, turned);
          float* to = panels + (o + i) / quad * (quad * terms * groups) + k;
          for (int j = 0; j < 4; ++j) store(to + j * terms, turned[j]);
        }
#else
      for (int i = 0; i < terms; ++i)
        for (int k = 0; k < terms; ++k)
          panels[(o + i) / quad * (quad * terms * groups) + i % quad * terms + k] = columns[k * outputs + o + i];
#endif
    }
}
#endif

}  // namespace hone::kernels::HONE_ISA
