// f32 matrices to bf16 panels: 64 outputs side by side, a 32-bit word for each two neighbours of the contraction, zeros
// beyond either size. Done for each weight at each training step, in both directions: it should cost no more than
// reading the matrix.
#include "kernels/isa/gemm/panels.h"

#include "kernels/isa/gemm/interleave.h"
#include "kernels/isa/vector_math.h"

namespace hone::kernels::HONE_ISA {
namespace {

constexpr int64_t width = panel_width;
constexpr int64_t square = 16;  // words of a transposed block, each way

// Outputs are columns of w: two rows interleave into a row of words.
void interleave(ConstView w, int64_t first, int64_t outputs, int64_t padded, uint32_t* out) {
  for (int64_t pair = 0; pair < padded / 2; ++pair, out += width) interleave_pair<float>(w, pair, first, outputs, out);
}

// Outputs are rows of w: 16 of them at a time, 32 columns as 16 words, transposed.
void transpose(ConstView w, int64_t first, int64_t outputs, int64_t padded, uint32_t* out) {
  alignas(64) uint32_t words[square * square];
  for (int64_t i = 0; i < width; i += square) {
    const int64_t rows = outputs - i < square ? (outputs > i ? outputs - i : 0) : square;
    for (int64_t k = 0; k < padded; k += 2 * square) {
      const int64_t columns = w.cols - k < 2 * square ? w.cols - k : 2 * square;
      if (rows < square || columns < 2 * square) __builtin_memset(words, 0, sizeof words);
      for (int64_t r = 0; r < rows; ++r)
        narrow(w.row<float>(first + i + r) + k, 1.0f, reinterpret_cast<bf16*>(words + r * square), columns);
      transpose16(words, square, out + k / 2 * width + i, width);
    }
  }
}

}  // namespace

void pack_panels(ConstView w, bool transposed, bf16* panels, int64_t begin, int64_t end) {
  const int64_t n = transposed ? w.cols : w.rows, k = transposed ? w.rows : w.cols;
  const int64_t padded = (k + 31) / 32 * 32;
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t first = panel * width, outputs = n - first < width ? n - first : width;
    auto* out = reinterpret_cast<uint32_t*>(panels + first * padded);
    transposed ? interleave(w, first, outputs, padded, out) : transpose(w, first, outputs, padded, out);
  }
}

}  // namespace hone::kernels::HONE_ISA
