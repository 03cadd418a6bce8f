#include "kernels/gemm/bf16.h"

#include <algorithm>
#include <vector>

#include "base/integers.h"
#include "kernels/isa/kernel_set.h"
#include "kernels/panel.h"
#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"
#include "kernels/scratch.h"
#include "kernels/tiles/tiles.h"

namespace hone::kernels::own {
namespace {

// Pairs of a block of the contraction: 256 KB of a panel, a quarter of the second-level cache.
constexpr int64_t deepest = 1024;
constexpr int64_t block_bytes = 384 << 10;  // of rows that meet all panels while they are in that cache

const GemmTable& table() {
  return kernel_set().gemm;
}

// What multiplies: the set's dot products, or the tile unit.
struct Loop {
  void (*product)(const PanelProduct&);
  int64_t rows;  // of a tile of sums: blocks are multiples of it
  int64_t step;  // rows whose sums stay in the first-level cache
  const tiles::TileUnit* unit;
};

Loop loop_in_use() {
  if (const tiles::TileUnit* unit = tiles::unit()) return {unit->product, 2 * tiles::side, 4 * tiles::side, unit};
  return {table().product, 6, 24, nullptr};
}

thread_local Scratch sums_scratch;
thread_local Scratch panels_scratch;
thread_local Scratch turned_scratch;

// Rows [row, row + rows) of c for one panel, over the whole contraction.
struct RowsOfPanel {
  const Loop& loop;
  ConstView a;
  const bf16* panels;
  int64_t k;
  View c;
  float* sums;  // [rows][64]

  void run(int64_t panel, int64_t row, int64_t rows) const {
    const int64_t padded = ceil_div(k, half_columns) * half_columns, first = panel * panel_rows;
    const bf16* data = panels + first * padded;
    const auto* left = reinterpret_cast<const char*>(a.row<bf16>(row));
    const int64_t pairs = k / 2, a_row = a.stride * 2;
    const bool whole_panel = first + panel_rows <= c.cols;
    if (c.dtype == DType::bf16 && whole_panel && k % 2 == 0 && pairs <= deepest)
      return loop.product({left, a_row, 4, rows, pairs, data, c.row<bf16>(row) + first, c.stride, false, true});
    const bool direct = c.dtype == DType::f32 && whole_panel;
    float* target = direct ? c.row<float>(row) + first : sums;
    const int64_t stride = direct ? c.stride : panel_rows;
    for (int64_t p = 0; p < pairs; p += deepest)
      loop.product({left + 4 * p, a_row, 4, rows, std::min(deepest, pairs - p), data + p * 2 * panel_rows, target,
                    stride, p > 0, false});
    if (k % 2) odd_column(data + pairs * 2 * panel_rows, row, rows, target, stride);
    if (!direct) {
      const ConstView from{sums, DType::f32, rows, std::min(panel_rows, c.cols - first), panel_rows};
      convert(from, columns_of(rows_of(c, row, rows), first, from.cols));
    }
  }

  // The last column of a has no neighbour: paired with zeros.
  void odd_column(const bf16* panel, int64_t row, int64_t rows, float* target, int64_t stride) const {
    for (int64_t r = 0; r < rows; ++r) {
      const uint32_t pair = a.row<bf16>(row + r)[k - 1].bits;
      loop.product(
          {reinterpret_cast<const char*>(&pair), 0, 4, 1, 1, panel, target + r * stride, stride, k > 1, false});
    }
  }
};

// A product cut into tasks: blocks of rows as large as the cache takes, and columns cut where there are few such
// blocks.
struct PanelTasks {
  PanelGemm p;
  int64_t panels, blocks, block, cuts = 1;

  PanelTasks(const PanelGemm& product, const Loop& loop) : p(product), panels(ceil_div(p.n, panel_rows)) {
    const int64_t fitting = block_bytes / (2 * std::min(p.k, 2 * deepest) + 1) / loop.rows * loop.rows;
    blocks = ceil_div(p.c.rows, std::clamp<int64_t>(fitting, 48, 384));
    block = round_up(ceil_div(p.c.rows, blocks), loop.rows);
  }

  void run(const Loop& loop, int64_t task) const {
    const int64_t row = task / cuts * block, cut = task % cuts, rows = std::min(block, p.c.rows - row);
    if (rows <= 0) return;
    // Where the contraction is one block, a few tiles of sums in the first-level cache; else those of all rows.
    const int64_t step = p.k <= 2 * deepest ? loop.step : rows;
    const RowsOfPanel product{loop, p.a, p.panels, p.k, p.c, sums_scratch.array<float>(step * panel_rows)};
    const tiles::Region region(loop.unit, tiles::side);
    for (int64_t panel = panels * cut / cuts; panel < panels * (cut + 1) / cuts; ++panel)
      for (int64_t r = 0; r < rows; r += step) product.run(panel, row + r, std::min(step, rows - r));
  }
};

// The outputs of a panel as rows of the other factor: where they lie, or for tiles, whose rows are pairs of one output,
// turned. Of `depth` pairs at most.
struct PanelAsRows {
  const char* data;
  int64_t row, step;  // as PanelProduct::a_row and a_step

  PanelAsRows(const Loop& loop, const uint32_t* panel, int64_t pairs, int64_t depth)
      : data(reinterpret_cast<const char*>(panel)), row(4), step(4 * panel_rows) {
    if (!loop.unit) return;
    const int64_t row_words = round_up(depth, tiles::side) + tiles::side;  // rows not all in the same sets of caches
    auto* turned = turned_scratch.array<uint32_t>(panel_rows * row_words);
    loop.unit->turn(panel, pairs, turned, row_words);
    data = reinterpret_cast<const char*>(turned);
    row = 4 * row_words;
    step = 4;
  }
};

}  // namespace

bool available() {
  return table().product != nullptr;
}

void gemm_panels(ConstView a, const bf16* panels, int64_t n, int64_t k, View c) {
  const PanelGemm one{a, panels, n, k, c};
  gemm_panels({&one, 1});
}

void gemm_panels(std::span<const PanelGemm> products) {
  const Loop loop = loop_in_use();
  thread_local std::vector<PanelTasks> kept;  // one training step after the other
  std::vector<PanelTasks>& all = kept;        // the caller's, in every thread
  all.clear();
  for (const PanelGemm& product : products) all.emplace_back(product, loop);
  int64_t blocks = 0, tasks = 0;
  for (const PanelTasks& one : all) blocks += one.blocks;
  // Several products are rarely of one size: smaller tasks let the threads end together.
  const int64_t wanted = (all.size() > 1 ? 8 : 4) * threads();
  for (PanelTasks& one : all) {
    if (threads() > 1) one.cuts = std::min(one.panels, ceil_div(wanted, blocks));
    tasks += one.blocks * one.cuts;
  }
  parallel_each(tasks, [&](int64_t task) {
    auto one = all.begin();
    for (; task >= one->blocks * one->cuts; ++one) task -= one->blocks * one->cuts;
    one->run(loop, task);
  });
}

void gemm_gradient(ConstView a, ConstView b, View c, bool accumulate) {
  if (c.rows == 0 || c.cols == 0) return;
  if (a.rows == 0) {  // a sum of nothing
    for (int64_t r = 0; r < c.rows && !accumulate; ++r) std::fill_n(c.row<float>(r), c.cols, 0.0f);
    return;
  }
  const GemmTable& t = table();
  const Loop loop = loop_in_use();
  const int64_t pairs = ceil_div(a.rows, 2), a_panels = ceil_div(a.cols, panel_rows),
                b_panels = ceil_div(b.cols, panel_rows);
  const int64_t depth = std::min<int64_t>(pairs, deepest);
  // Several tasks a thread, also where there are few panels of a.
  const int64_t cuts = threads() > 1 ? std::min(b_panels, ceil_div(4 * threads(), a_panels)) : 1;
  // One pair more than a block has, so that the panels do not all start in the same sets of the caches.
  const int64_t panel_words = (depth + 1) * panel_rows;
  auto* a_words = panels_scratch.array<uint32_t>((a_panels + b_panels) * panel_words);
  uint32_t* b_words = a_words + a_panels * panel_words;
  for (int64_t begin = 0; begin < pairs; begin += depth) {
    const int64_t here = std::min(depth, pairs - begin);
    const auto rows_from = [&](ConstView x) {
      x.data = x.row<bf16>(2 * begin);
      x.rows -= 2 * begin;
      return x;
    };
    parallel_for(here, 8, [&](int64_t from, int64_t to) {
      t.interleave(rows_from(a), from, to, a_words, panel_words);
      t.interleave(rows_from(b), from, to, b_words, panel_words);
    });
    parallel_each(a_panels * cuts, [&](int64_t task) {
      const int64_t i = task / cuts, cut = task % cuts, first_row = i * panel_rows,
                    rows = std::min(panel_rows, c.rows - first_row);
      const PanelAsRows left(loop, a_words + i * panel_words, here, depth);
      const tiles::Region region(loop.unit, tiles::side);
      for (int64_t j = b_panels * cut / cuts; j < b_panels * (cut + 1) / cuts; ++j) {
        const int64_t first = j * panel_rows, columns = std::min(panel_rows, c.cols - first);
        const bool more = accumulate || begin > 0;
        const auto* panel = reinterpret_cast<const bf16*>(b_words + j * panel_words);
        if (columns == panel_rows) {
          loop.product({left.data, left.row, left.step, rows, here, panel, c.row<float>(first_row) + first, c.stride,
                        more, false});
          continue;
        }
        auto* sums = sums_scratch.array<float>(panel_rows * panel_rows);
        loop.product({left.data, left.row, left.step, rows, here, panel, sums, panel_rows, false, false});
        const ConstView from{sums, DType::f32, rows, columns, panel_rows};
        const View to = columns_of(rows_of(c, first_row, rows), first, columns);
        more ? add(to, from) : convert(from, to);
      }
    });
  }
}

}  // namespace hone::kernels::own
