// Attention in tiles with an online softmax (Milakov & Gimelshein 2018; FlashAttention, Dao et al. 2022, arXiv
// 2205.14135): forward, backward and decode of any block plan, without a queries x keys matrix.
#pragma once

#include "kernels/attention/cache_code.h"
#include "kernels/attention/plan.h"
#include "kernels/attention/types.h"

namespace hone::kernels {

// out = softmax(scale * q k^T, as dims.score changes it, over the keys that the plan shows) v.
// q, out: [batch, queries, heads, head_dim]; k, v: [batch, keys, kv_heads, head_dim]; all of one type, f32 or bf16.
// log_sum_exp [batch, heads, queries] (natural logarithm; needed by the backward) may be null.
// A query that sees no key gets zeros, and -1e30 as its logarithm.
// bf16 products run on bf16 dot products where the instruction set has them and in f32 elsewhere; the softmax is f32
// always. Results do not depend on the number of threads. Throws Error(internal) when dims, types and plan do not fit
// together.
void attention_forward(const AttentionDims& dims, ConstHeadRows q, ConstHeadRows k, ConstHeadRows v, HeadRows out,
                       float* log_sum_exp, const BlockPlan& plan);

// Gradients by q, k and v from that by out, with the forward's out and log_sum_exp: P is computed again from them
// (section 3.1 and algorithm 4 of the paper above). dq, dk, dv are written, not added to; rows that no query sees get
// zeros. All of q's type. Repeats bit for bit with the same number of threads.
struct AttentionGradients {
  HeadRows dq, dk, dv;
};
void attention_backward(const AttentionDims& dims, ConstHeadRows q, ConstHeadRows k, ConstHeadRows v, ConstHeadRows out,
                        const float* log_sum_exp, ConstHeadRows d_out, const AttentionGradients& gradients,
                        const BlockPlan& plan);

// A few queries of each sequence against its cache, read in place once for all the query heads of a key/value head.
struct DecodeDims {
  int64_t batch = 1, queries = 1;  // queries of each sequence
  int64_t heads = 1, kv_heads = 1, head_dim = 0;
  float scale = 1;
  ScoreRule score = {};
  MaskRule rule;
  const int64_t* key_lengths = nullptr;  // [batch] rows of the cache in use, those of the queries themselves included
  // [batch] position of each sequence's first query; null: the queries are the last rows, at key_lengths[b] - queries.
  const int64_t* query_positions = nullptr;
  // [batch, key_positions_stride] position of each row of the cache (a ring), negative if empty; null: row j is at j.
  const int32_t* key_positions = nullptr;
  int64_t key_positions_stride = 0;
  const int64_t* key_sequences = nullptr;  // [batch] which sequence of k and v is read; null: sequence b
  // Visited blocks of the cache, all others being invisible: those of (sequence b, key/value head h) are visits[i] for
  // i from visit_starts[b * kv_heads + h] up to the next start, each block once. Null: every block that the rule shows.
  // At most 64 query rows (queries * heads / kv_heads); not together with key_positions.
  const DecodeVisit* visits = nullptr;
  const int64_t* visit_starts = nullptr;
  // What k and v are. Of codes (cache_code.h), whose strides count bytes, the scales: bf16, a number a row, rows of a
  // head one after the other and readable up to a multiple of 64.
  CacheCode code = CacheCode::none;
  ConstHeadRows k_scales, v_scales;
};

// out = softmax(scale * q k^T) v as above. q and out: [batch, queries, heads, head_dim]; k and v: caches of at least
// key_lengths[b] rows. Types: q and out alike, k and v alike, each f32 or bf16, k and v also bytes of codes, u8. All
// arithmetic is f32.
// A long cache is read several times faster when the rows of one head lie together (row_stride = head_dim) than when
// the heads of one token do. Long caches are cut into parts of fixed length and combined, so that results do not depend
// on batch or threads.
void attention_decode(const DecodeDims& dims, ConstHeadRows q, ConstHeadRows k, ConstHeadRows v, HeadRows out);

// Codes of a cache, rows of a head one after the other: [sequences, heads, rows] of code_row_bytes() and of scales.
struct CodedRows {
  CacheCode code = CacheCode::none;
  HeadRows codes, scales;
};

// `count` rows of every head of the first sequence to codes, and back: rows from `first` on of the codes.
void encode_cache(ConstHeadRows from, const CodedRows& to, int64_t first, int64_t count, int64_t heads,
                  int64_t head_dim);
void decode_cache(const CodedRows& from, int64_t first, HeadRows to, int64_t count, int64_t heads, int64_t head_dim);

}  // namespace hone::kernels
