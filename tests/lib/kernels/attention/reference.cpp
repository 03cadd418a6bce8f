#include "lib/kernels/attention/reference.h"

#include <bit>
#include <cmath>
#include <stdexcept>
#include <string>
#include <string_view>

namespace hone::kernels {
namespace {

double get(const ConstHeadRows& x, int64_t sequence, int64_t row, int64_t head, int64_t d) {
  const int64_t at = sequence * x.batch_stride + row * x.row_stride + head * x.head_stride + d;
  return x.dtype == DType::f32 ? static_cast<const float*>(x.data)[at] : to_float(static_cast<const bf16*>(x.data)[at]);
}

void set(const HeadRows& x, int64_t sequence, int64_t row, int64_t head, int64_t d, double value) {
  const int64_t at = sequence * x.batch_stride + row * x.row_stride + head * x.head_stride + d;
  if (x.dtype == DType::f32)
    static_cast<float*>(x.data)[at] = static_cast<float>(value);
  else
    static_cast<bf16*>(x.data)[at] = to_bf16(static_cast<float>(value));
}

using Matrix = std::vector<double>;

// Rows of one head as a matrix [rows][head_dim].
Matrix rows_of(const ConstHeadRows& x, int64_t sequence, int64_t head, int64_t rows, int64_t dim) {
  Matrix m(static_cast<size_t>(rows * dim));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t d = 0; d < dim; ++d) m[static_cast<size_t>(r * dim + d)] = get(x, sequence, r, head, d);
  return m;
}

void write(const HeadRows& x, int64_t sequence, int64_t head, const Matrix& m, int64_t dim) {
  for (size_t i = 0; i < m.size(); ++i)
    set(x, sequence, static_cast<int64_t>(i) / dim, head, static_cast<int64_t>(i) % dim, m[i]);
}

// c[i][j] += scale * sum over k of a(i, k) * b(k, j), all as functions of indices.
template <class A, class B>
void add_product(Matrix& c, int64_t rows, int64_t cols, int64_t depth, A a, B b, double scale = 1) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < depth; ++k) sum += a(i, k) * b(k, j);
      c[static_cast<size_t>(i * cols + j)] += scale * sum;
    }
}

auto plain(const Matrix& m, int64_t cols) {
  return [&m, cols](int64_t i, int64_t j) { return m[static_cast<size_t>(i * cols + j)]; };
}
auto transposed(const Matrix& m, int64_t cols) {
  return [&m, cols](int64_t i, int64_t j) { return m[static_cast<size_t>(j * cols + i)]; };
}

// Those of a power of two of heads, and behind them every second one of twice as many.
double alibi_slope(int64_t heads, int64_t head) {
  const auto power = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(heads)));
  if (head >= power) return alibi_slope(2 * power, 2 * (head - power));
  return std::pow(2, -8.0 * static_cast<double>(head + 1) / static_cast<double>(power));
}

// What a kind of score should be, with rules to test it with: a row for each of score_kinds.
struct ReferenceScore {
  std::string_view name;
  double (*value)(double score, const ScoreRule& rule, int64_t head, int64_t distance);
  double (*slope)(double score, const ScoreRule& rule);
  std::vector<ScoreRule> rules;  // scores are of about 1, and up to 4
};

const ReferenceScore& reference_of(std::string_view name) {
  static const ReferenceScore rows[] = {
      {"softcap",
       [](double x, const ScoreRule& r, int64_t, int64_t) { return r.number * std::tanh(x / r.number); },
       [](double x, const ScoreRule& r) { return 1 - std::pow(std::tanh(x / r.number), 2); },
       {{score_named("softcap"), 0.7f}, {score_named("softcap"), 2.0f}, {score_named("softcap"), 50.0f}}},
      {"alibi",
       [](double x, const ScoreRule& r, int64_t head, int64_t distance) {
         return x - alibi_slope(r.heads, r.first_head + head) * static_cast<double>(std::abs(distance));
       },
       [](double, const ScoreRule&) { return 1.0; },
       {alibi(4), {score_named("alibi"), 0, 6, 12}}},
  };
  for (const ReferenceScore& row : rows)
    if (row.name == name) return row;
  throw std::logic_error("tests have no reference of the score " + std::string(name));
}

// All scores of a head.
void change(const AttentionDims& dims, int64_t head, const std::vector<int32_t>& key_positions, Matrix& scores) {
  const ScoreRule& rule = dims.score;
  if (rule.kind == ScoreKind::plain) return;
  const ReferenceScore& reference = reference_of(info_of(rule.kind).name());
  for (int64_t i = 0; i < dims.queries; ++i)
    for (int64_t j = 0; j < dims.keys; ++j) {
      const int64_t key = key_positions.empty() ? j : key_positions[static_cast<size_t>(j)];
      double& score = scores[static_cast<size_t>(i * dims.keys + j)];
      score = reference.value(score, rule, head, dims.query_offset + i - key);
    }
}

double slope(const ScoreRule& rule, double score) {
  return reference_of(info_of(rule.kind).name()).slope(score, rule);
}

// The probabilities of one head, and the logarithm of each row's sum (-1e30 where nothing is visible).
Matrix probabilities(const AttentionDims& dims, int64_t head, const Matrix& q, const Matrix& k,
                     const ReferenceMask& mask, const uint8_t* visible, std::vector<double>& log_sums) {
  Matrix p(static_cast<size_t>(dims.queries * dims.keys));
  add_product(p, dims.queries, dims.keys, dims.head_dim, plain(q, dims.head_dim), transposed(k, dims.head_dim),
              dims.scale);
  change(dims, head, mask.key_positions, p);
  log_sums.assign(static_cast<size_t>(dims.queries), -1e30);
  for (int64_t i = 0; i < dims.queries; ++i) {
    double* row = p.data() + i * dims.keys;
    const uint8_t* seen = visible + i * dims.keys;
    double top = -INFINITY, total = 0;
    for (int64_t j = 0; j < dims.keys; ++j)
      if (seen[j]) top = std::fmax(top, row[j]);
    for (int64_t j = 0; j < dims.keys; ++j) total += row[j] = seen[j] ? std::exp(row[j] - top) : 0;
    if (total == 0) continue;
    for (int64_t j = 0; j < dims.keys; ++j) row[j] /= total;
    log_sums[static_cast<size_t>(i)] = top + std::log(total);
  }
  return p;
}

const uint8_t* list_of(const ReferenceMask& mask, const AttentionDims& dims, int64_t sequence, int64_t head) {
  return mask.visible.data() + (mask.lists == 1 ? 0 : sequence * dims.heads + head) * dims.queries * dims.keys;
}

}  // namespace

std::vector<ScoreRule> score_rules() {
  std::vector<ScoreRule> rules;
  for (size_t i = 0; i < score_kind_count; ++i)
    for (const ScoreRule& rule : reference_of(score_kinds[i].name()).rules) rules.push_back(rule);
  return rules;
}

ReferenceMask reference_mask(const AttentionDims& dims, const MaskRule& rule,
                             const std::vector<int32_t>& key_positions) {
  ReferenceMask mask;
  mask.key_positions = key_positions;
  mask.visible.resize(static_cast<size_t>(dims.queries * dims.keys));
  for (int64_t i = 0; i < dims.queries; ++i)
    for (int64_t j = 0; j < dims.keys; ++j) {
      const int64_t query = dims.query_offset + i,
                    key = key_positions.empty() ? j : key_positions[static_cast<size_t>(j)];
      mask.visible[static_cast<size_t>(i * dims.keys + j)] =
          key >= 0 && (!rule.causal || key <= query) && (std::abs(query - key) < rule.window || key < rule.sinks);
    }
  return mask;
}

void attention_forward_reference(const AttentionDims& dims, ConstHeadRows q, ConstHeadRows k, ConstHeadRows v,
                                 HeadRows out, float* log_sum_exp, const ReferenceMask& mask) {
  const int64_t in_group = dims.heads / dims.kv_heads, dim = dims.head_dim;
  for (int64_t b = 0; b < dims.batch; ++b)
    for (int64_t h = 0; h < dims.heads; ++h) {
      std::vector<double> log_sums;
      const Matrix values = rows_of(v, b, h / in_group, dims.keys, dim);
      const Matrix p =
          probabilities(dims, h, rows_of(q, b, h, dims.queries, dim), rows_of(k, b, h / in_group, dims.keys, dim), mask,
                        list_of(mask, dims, b, h), log_sums);
      Matrix o(static_cast<size_t>(dims.queries * dim));
      add_product(o, dims.queries, dim, dims.keys, plain(p, dims.keys), plain(values, dim));
      write(out, b, h, o, dim);
      if (!log_sum_exp) continue;
      for (int64_t i = 0; i < dims.queries; ++i)
        log_sum_exp[(b * dims.heads + h) * dims.queries + i] = static_cast<float>(log_sums[static_cast<size_t>(i)]);
    }
}

void attention_backward_reference(const AttentionDims& dims, ConstHeadRows q, ConstHeadRows k, ConstHeadRows v,
                                  ConstHeadRows d_out, HeadRows dq, HeadRows dk, HeadRows dv,
                                  const ReferenceMask& mask) {
  const int64_t in_group = dims.heads / dims.kv_heads, dim = dims.head_dim;
  for (int64_t b = 0; b < dims.batch; ++b)
    for (int64_t kv = 0; kv < dims.kv_heads; ++kv) {
      const Matrix keys = rows_of(k, b, kv, dims.keys, dim), values = rows_of(v, b, kv, dims.keys, dim);
      Matrix d_keys(keys.size()), d_values(values.size());
      for (int64_t h = kv * in_group; h < (kv + 1) * in_group; ++h) {
        const Matrix queries = rows_of(q, b, h, dims.queries, dim), d_o = rows_of(d_out, b, h, dims.queries, dim);
        std::vector<double> log_sums;
        const Matrix p = probabilities(dims, h, queries, keys, mask, list_of(mask, dims, b, h), log_sums);
        add_product(d_values, dims.keys, dim, dims.queries, transposed(p, dims.keys), plain(d_o, dim));
        Matrix ds(p.size());
        add_product(ds, dims.queries, dims.keys, dim, plain(d_o, dim), transposed(values, dim));
        for (int64_t i = 0; i < dims.queries; ++i) {
          double delta = 0;
          const size_t row = static_cast<size_t>(i * dims.keys), n = static_cast<size_t>(dims.keys);
          for (size_t j = 0; j < n; ++j) delta += p[row + j] * ds[row + j];
          for (size_t j = 0; j < n; ++j) ds[row + j] = p[row + j] * (ds[row + j] - delta);
        }
        if (dims.score.kind != ScoreKind::plain) {
          Matrix scores(p.size());
          add_product(scores, dims.queries, dims.keys, dim, plain(queries, dim), transposed(keys, dim), dims.scale);
          for (size_t i = 0; i < ds.size(); ++i) ds[i] *= slope(dims.score, scores[i]);
        }
        Matrix d_queries(queries.size());
        add_product(d_queries, dims.queries, dim, dims.keys, plain(ds, dims.keys), plain(keys, dim), dims.scale);
        add_product(d_keys, dims.keys, dim, dims.queries, transposed(ds, dims.keys), plain(queries, dim), dims.scale);
        write(dq, b, h, d_queries, dim);
      }
      write(dk, b, kv, d_keys, dim);
      write(dv, b, kv, d_values, dim);
    }
}

}  // namespace hone::kernels
