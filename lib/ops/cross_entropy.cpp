#include "ops/cross_entropy.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/rows/elementwise.h"

namespace hone::ops {

// Each chunk adds one pass over the head's gradient, so chunks are large, but their logits stay within 128 MB in bf16.
int64_t head_chunk_rows(int64_t rows, int64_t vocabulary) {
  return std::clamp<int64_t>((int64_t{64} << 20) / vocabulary, 16, std::max<int64_t>(rows, 16));
}

namespace {

// The number of scored rows, or the sum of their weights.
double weight_of_scored(std::span<const int32_t> targets, std::span<const float> of_rows) {
  double sum = 0;
  for (size_t r = 0; r < targets.size(); ++r)
    if (targets[r] >= 0) sum += of_rows.empty() ? 1.0 : static_cast<double>(of_rows[r]);
  return sum;
}

void scale_rows(const kernels::View& x, std::span<const float> factors) {
  for (int64_t r = 0; r < x.rows; ++r) {
    const float factor = factors[static_cast<size_t>(r)];
    if (factor == 1) continue;
    kernels::with_float_type(x.dtype, [&]<class T>(T*) {
      T* row = static_cast<T*>(x.data) + r * x.stride;
      for (int64_t c = 0; c < x.cols; ++c) {
        if constexpr (std::is_same_v<T, float>)
          row[c] *= factor;
        else
          row[c] = to_bf16(to_float(row[c]) * factor);
      }
    });
  }
}

}  // namespace

TokenLosses cross_entropy_head(const Var& x, const std::shared_ptr<Weight>& head, int64_t vocabulary,
                               std::span<const int32_t> targets, float weight, std::span<const float> of_rows) {
  const kernels::View in = x.value().view();
  const int64_t rows = in.rows;
  TokenLosses result;
  result.losses.resize(static_cast<size_t>(rows));
  result.correct.resize(static_cast<size_t>(rows));
  const double scored = weight_of_scored(targets, of_rows);
  const bool recording = Tape::recording();
  const float scale = recording && scored > 0 ? weight / static_cast<float>(scored) : 0.0f;
  const Tensor dx = recording ? Tensor::empty(x.shape(), x.value().dtype()) : Tensor();
  const int64_t chunk = head_chunk_rows(rows, head->rows());
  const Tensor buffer = Tensor::empty({std::min(chunk, rows), head->rows()}, x.value().dtype());
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t count = std::min(chunk, rows - begin);
    const kernels::View part = x.value().reshape({rows, in.cols}).rows(begin, count).view();
    const kernels::View logits = buffer.rows(0, count).view();
    head->matmul(part, logits);
    kernels::cross_entropy(logits, vocabulary, targets.subspan(static_cast<size_t>(begin), static_cast<size_t>(count)),
                           std::span(result.losses).subspan(static_cast<size_t>(begin), static_cast<size_t>(count)),
                           std::span(result.correct).subspan(static_cast<size_t>(begin), static_cast<size_t>(count)),
                           scale);
    if (!recording) continue;
    if (!of_rows.empty()) scale_rows(logits, of_rows.subspan(static_cast<size_t>(begin)));
    head->add_dw(logits, part);
    head->matmul_dx(logits, dx.reshape({rows, in.cols}).rows(begin, count).view());
  }
  double sum = 0;
  for (size_t r = 0; r < result.losses.size(); ++r)
    sum += static_cast<double>(result.losses[r]) * (of_rows.empty() ? 1.0 : static_cast<double>(of_rows[r]));
  const double mean = scored > 0 ? sum / scored : 0;
  result.term = {"next_token", Var(Tensor::of({1}, {static_cast<float>(mean)}), recording), weight};
  if (recording)
    Tape::record([x, dx, loss = result.term.value, weight] {
      if (loss.take_grad().data<float>()[0] != weight)
        throw internal_error("the loss of the head does not have the weight that its gradient was computed for");
      x.add_grad(dx);
    });
  return result;
}

}  // namespace hone::ops
