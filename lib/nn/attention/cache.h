// Keys and values of tokens already seen, one layer's: as many as its kind of attention needs.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/attention/route.h"
#include "nn/state.h"
#include "tensor/tensor.h"

namespace hone {

// What a kind of attention needs of the past.
struct CacheNeed {
  int64_t window = kernels::MaskRule::unlimited;  // the latest tokens, in a ring
  int64_t sinks = 0;                              // the first tokens, before the ring
  int64_t summary_block = 0;                      // tokens of a block whose keys are summarized; 0: none are
};

// [sequences, kv_heads, rows, head_dim] each: the rows of one head lie together, which decode reads several times
// faster than rows of one token. Position p stands in row p; a ring that is full goes on behind the sinks. The ring is
// longer than the window by the tokens that can be taken back: what those replaced is then still there.
//
// With pages (StateShape), a layer that keeps every token has [pages, kv_heads, page_rows, head_dim] instead; a ring
// has an end, and stays a sequence's own, as summaries do.
//
// Keys and values may be codes (kernels/attention/cache_code.h). What is attended to then is what the codes say, for
// the tokens of a call as for those before it: results do not depend on how a sequence was cut into calls.
class LayerCache : public LayerState {
 public:
  LayerCache(const CacheNeed& need, int64_t kv_heads, int64_t head_dim, const StateShape& shape);

  // Of a cache as the constructor makes it.
  static double bytes_of(const CacheNeed& need, int64_t kv_heads, int64_t head_dim, const StateShape& shape);
  int64_t bytes() const override;
  int64_t earliest(int64_t sequence, int64_t length) const override;
  void truncate(int64_t sequence, int64_t length, int64_t tokens) override;
  void copy_page(int32_t from, int32_t to, int64_t rows) override;
  bool keeps() const override { return !table_ || need_.summary_block > 0; }
  std::vector<Tensor> keep(int64_t sequence, int64_t length) const override;
  void restore(int64_t sequence, int64_t length, const std::vector<Tensor>& kept) override;

  // Stores the keys and values of `count` tokens of one sequence, which stands at `position`. k and v show that
  // sequence alone.
  void store(int64_t sequence, int64_t position, int64_t count, kernels::ConstHeadRows k, kernels::ConstHeadRows v);

  int64_t rows() const { return rows_; }  // of a sequence
  // True where `tokens` do not all have a row of their own.
  bool wraps(int64_t tokens) const { return tokens > rows(); }
  // As they are stored.
  kernels::HeadRows keys(int64_t sequence = 0) const { return view(keys_, sequence); }
  kernels::HeadRows values(int64_t sequence = 0) const { return view(values_, sequence); }
  bool coded() const { return code_ != kernels::CacheCode::none; }
  kernels::CacheCode code() const { return code_; }
  kernels::HeadRows key_scales(int64_t sequence = 0) const { return view(key_scales_, sequence); }
  kernels::HeadRows value_scales(int64_t sequence = 0) const { return view(value_scales_, sequence); }
  // The first `tokens` rows of a sequence, in the type of activations: what is stored where it is no codes, else copies
  // that live as long as this.
  struct Plain {
    Tensor key_room, value_room;
    kernels::HeadRows keys, values;
  };
  Plain plain(int64_t sequence, int64_t tokens) const;
  kernels::KeySummaries key_summaries(int64_t sequence = 0) const;

  // The position in each row after `tokens` tokens, -1 where there is none.
  void positions(int64_t tokens, int32_t* of_rows) const;

  // Keys and values that the query at `position` and later ones may see, of the positions before it, in order, and room
  // for `more` rows behind them: copied out of a ring that the later ones' own rows would overwrite. In blocks of
  // kernels::attention_block as those of the whole sequence, so that bits do not depend on where a call begins; rows
  // that fill up blocks are zeros, at positions that nobody sees any more.
  struct History {
    Tensor keys, values;             // [kv_heads, rows, head_dim]
    std::vector<int32_t> positions;  // of the rows that are filled; the others follow on
  };
  History history(int64_t sequence, int64_t position, int64_t more) const;

  // Copies rows as they would come back from the cache.
  void copy_as_stored(kernels::ConstHeadRows from, kernels::HeadRows to, int64_t to_row, int64_t count) const;

 private:
  static int64_t rows_for(const CacheNeed& need, const StateShape& shape);
  static bool paged(const CacheNeed& need, const StateShape& shape) {
    return shape.pages > 0 && need.window >= kernels::MaskRule::unlimited;
  }
  kernels::HeadRows view(const Tensor& t, int64_t sequence) const;
  static Tensor scales_for(int64_t sequences, int64_t heads, int64_t rows);
  kernels::CodedRows coded_keys(int64_t sequence) const { return {code_, keys(sequence), key_scales(sequence)}; }
  kernels::CodedRows coded_values(int64_t sequence) const { return {code_, values(sequence), value_scales(sequence)}; }
  // Rows of all heads into the cache, and out of it.
  void put(kernels::ConstHeadRows from, int64_t from_row, const kernels::CodedRows& to, int64_t to_row,
           int64_t count) const;
  void take(const kernels::CodedRows& from, int64_t from_row, kernels::HeadRows to, int64_t to_row,
            int64_t count) const;
  void summarize(int64_t sequence, kernels::ConstHeadRows k, int64_t position, int64_t count);
  int64_t ring() const { return rows() - std::min(need_.sinks, rows()); }

  CacheNeed need_;
  DType type_;
  kernels::CacheCode code_;
  int64_t head_dim_, rows_;
  std::shared_ptr<const PageTable> table_;  // null: no pages
  Tensor keys_, values_;                    // codes: [sequences, kv_heads, rows, bytes of a row]
  Tensor key_scales_, value_scales_;        // of codes: bf16 [sequences, kv_heads, rows up to a multiple of 64, 1]
  Tensor summaries_;                        // f32 [batch, kv_heads, blocks, 3, head_dim], or nothing
};

// Copies `count` rows of every head, f32 or bf16 on either side.
void copy_heads(kernels::ConstHeadRows from, int64_t from_row, kernels::HeadRows to, int64_t to_row, int64_t count,
                int64_t heads, int64_t head_dim);

}  // namespace hone
