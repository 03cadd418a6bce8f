// How the tiles of a packed panel come out of memory, one step (64 rows x k columns: 256 bytes) after the other. Each
// source, one for a layout of an element (elements/), has
//   step(out)              the next step, 256 bytes; integers keep their offset. With AVX2 `p`, its place, instead
//   tiles(count, scratch)  the next `count` steps as an array, in place where they lie unpacked already
// With AVX-512 a source has step(w) instead, which leaves the four tiles in registers, and
//   line_tiles             about how many bytes of tiles come out of one line of the cache, a power of 2
//   fetch(at)              starts loading the line of what is `at` bytes of tiles further on
#pragma once

#include "kernels/isa/features.h"
#include "kernels/packed/table.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hone::kernels::HONE_ISA {

inline constexpr int64_t step_bytes = 256;

// Steps of a panel that share their scales and fit packed_unpack_bytes.
inline int64_t scaled_chunk(const PackedPanel& panel) {
  constexpr int64_t most = packed_unpack_bytes / step_bytes;
  return panel.segment_steps < most ? panel.segment_steps : most;
}

inline void prefetch(const void* address) {
  __builtin_prefetch(address, 0, 3);
}

#if defined(__AVX512VBMI2__)
inline void store_step(const __m512i w[4], uint8_t* out) {
  for (int i = 0; i < 4; ++i) _mm512_storeu_si512(out + i * 64, w[i]);
}
#endif

// What sources have alike whose tiles do not lie unpacked already. Without members: registers hold the sources.
template <class Source>
struct Unpacking {
  static constexpr bool in_place = false;
  static constexpr bool cheap(int64_t) { return false; }  // see in_blocks()

  const uint8_t* tiles(int64_t count, uint8_t* scratch) {
    auto& source = static_cast<Source&>(*this);
    for (int64_t i = 0; i < count; ++i) {
#if defined(__AVX512VBMI2__)
      __m512i w[4];
      source.step(w);
      store_step(w, scratch + i * step_bytes);
#else
      source.step(scratch + i * step_bytes);
#endif
    }
    return scratch;
  }
};

// What runs beside the products of a segment with several blocks of rows: each step also starts the loading of its
// share of the segment after it, each line of the cache once. Evenly: one core has so few loads under way at once that
// bytes which do not flow during one block cannot be made up for during the next.
template <class Source>
struct SegmentAhead {
  Source source;
  int64_t at, each;  // bytes of tiles
  void operator()() {
#if defined(__AVX512VBMI2__)
    constexpr int64_t line = Source::line_tiles;
    for (int64_t next = (at + line - 1) & -line; next < at + each; next += line) source.fetch(next);
#endif
    at += each;
  }
};

// The same by addresses, where a product knows them: each step starts loading what lies `each` bytes further on.
struct LoadAhead {
  const uint8_t* at;
  int64_t each;
  void operator()() {
    prefetch(at);
    at += each;
  }
};
// How far, in bytes, a product with one row loads ahead of what it uses.
inline constexpr int64_t stream_ahead = 2048;

struct Nothing {
  void operator()() const {}
};

// Unpacked tiles: dense int8, dense bf16, and what tiles() has left.
struct Plain {
  explicit Plain(const uint8_t* tiles_at) : p(tiles_at) {}
  explicit Plain(const PackedPanel& panel) : p(panel.values) {}
  const uint8_t* p;

  const uint8_t* tiles(int64_t count, uint8_t*) {
    const uint8_t* at = p;
    p += count * step_bytes;
    return at;
  }
  static constexpr int64_t line_tiles = 64;
  void fetch(int64_t at) const { prefetch(p + at); }
  static constexpr bool in_place = true;
  static constexpr bool cheap(int64_t) { return true; }
#if defined(__AVX512VBMI2__)
  void step(__m512i w[4]) {
    for (int i = 0; i < 4; ++i) w[i] = _mm512_loadu_si512(p + i * 64);
    p += step_bytes;
  }
#endif
};

#if defined(__AVX512VBMI2__)

// As assembly: GCC 12 copies an accumulator before and after each of these intrinsics, which costs more than the
// product.
inline void dot(__m512i& sum, __m512i weights, __m512i x) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(x));
}
#if defined(__AVX512BF16__)
inline void dot(__m512& sum, __m512i weights, __m512i x) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(x));
}
#endif

// Four bytes to all lanes.
inline __m512i broadcast(const uint8_t* from) {
  __m512i v;
  asm("vpbroadcastd %1, %0" : "=v"(v) : "m"(*reinterpret_cast<const uint8_t(*)[4]>(from)));
  return v;
}

// Tiles as they come out of another source, left in memory as well for the rows that registers have no room for.
template <class Source>
struct Keeping {
  Source source;
  uint8_t* out;
  void step(__m512i w[4]) {
    source.step(w);
    store_step(w, out);
    out += step_bytes;
  }
};
#endif

// Calls add(m, count, source, beside) for one block of `count` rows of x, from row m on, after the other; each takes
// `steps` steps from the source it is given, and `source` moves on by as many. With AVX-512 every block has tiles from
// `source` itself, in registers, where it is cheap() for so many rows to unpack them again; else the first block alone,
// which leaves them in memory for the others. block_of(rows left) is the size of a block. All inlined: what a source,
// a segment and the sums are then stays in registers from block to block, and the processor goes on with the next block
// while the sums of the last are still under way.
template <class Source, class Add>
inline __attribute__((always_inline)) void in_blocks(Source& source, int64_t steps, int64_t rows, uint8_t* scratch,
                                                     int64_t (*block_of)(int64_t), Add add) {
  const int64_t each_row = (step_bytes + rows - 1) / rows;
  int64_t m = 0, count = 0;
#if defined(__AVX512VBMI2__)
  if (Source::cheap(rows)) {
    const Source start = source;
    for (; m < rows; m += count) {
      count = block_of(rows - m);
      source = start;
      add(m, count, source, SegmentAhead<Source>{start, steps * (step_bytes + m * each_row), count * each_row});
    }
    return;
  }
  if constexpr (!Source::in_place) {
    count = block_of(rows);
    Keeping<Source> keeping{source, scratch};
    add(m, count, keeping, SegmentAhead<Source>{source, steps * step_bytes, count * each_row});
    source = keeping.source;
    m = count;
  }
  const uint8_t* tiles = scratch;
#else
  const uint8_t* tiles = source.tiles(steps, scratch);
#endif
  for (; m < rows; m += count) {
    count = block_of(rows - m);
    Plain plain(tiles);
    add(m, count, plain, SegmentAhead<Source>{source, m * each_row * steps, count * each_row});
  }
}

}  // namespace hone::kernels::HONE_ISA
