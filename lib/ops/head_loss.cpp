#include "ops/head_loss.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/rows/elementwise.h"
#include "ops/ranks.h"

namespace hone::ops {

// Each chunk adds one pass over the head's gradient, so chunks are large, but their logits stay within 128 MB in bf16.
int64_t head_chunk_rows(int64_t rows, int64_t vocabulary) {
  return std::clamp<int64_t>((int64_t{64} << 20) / vocabulary, 16, std::max<int64_t>(rows, 16));
}

LossTerm head_loss(const std::string& name, const Var& x, const Head& head, std::span<const int32_t> targets,
                   float weight, std::span<float> losses, const RowLosses& of_rows, std::span<const float> weights) {
  const kernels::View in = x.value().view();
  const int64_t rows = in.rows;
  const auto weight_of = [&](size_t row) { return weights.empty() ? 1.0 : static_cast<double>(weights[row]); };
  double scored = 0;
  for (size_t r = 0; r < targets.size(); ++r)
    if (targets[r] >= 0) scored += weight_of(r);
  const bool recording = Tape::recording();
  const float scale = recording && scored > 0 ? weight / static_cast<float>(scored) : 0.0f;
  const Tensor dx = recording ? Tensor::empty(x.shape(), x.value().dtype()) : Tensor();
  const int64_t width = head.weight->rows(), chunk = head_chunk_rows(rows, width);
  const Tensor buffer = Tensor::empty({std::min(chunk, rows), width}, x.value().dtype());
  const bool capped = recording && head.softcap > 0;
  const Tensor copy = capped ? Tensor::empty(buffer.shape(), buffer.dtype()) : Tensor();
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t count = std::min(chunk, rows - begin);
    const kernels::View part = x.value().reshape({rows, in.cols}).rows(begin, count).view();
    const kernels::View logits = buffer.rows(0, count).view();
    head.logits(part, logits);
    if (capped) kernels::convert(logits, copy.rows(0, count).view());
    of_rows(logits, begin, losses.subspan(static_cast<size_t>(begin), static_cast<size_t>(count)), scale);
    if (!recording) continue;
    if (capped) kernels::softcap_backward(copy.rows(0, count).view(), logits, head.softcap);
    head.weight->add_dw(logits, part);
    head.weight->matmul_dx(logits, dx.reshape({rows, in.cols}).rows(begin, count).view());
  }
  if (recording && head.ranks) sum_over(*head.ranks, dx);
  double sum = 0;
  for (size_t r = 0; r < losses.size(); ++r) sum += static_cast<double>(losses[r]) * weight_of(r);
  const double mean = scored > 0 ? sum / scored : 0;
  LossTerm term = {name, Var(Tensor::of({1}, {static_cast<float>(mean)}), recording), weight};
  if (recording)
    Tape::record([x, dx, loss = term.value, weight] {
      if (loss.take_grad().data<float>()[0] != weight)
        throw internal_error("the loss of the head does not have the weight that its gradient was computed for");
      x.add_grad(dx);
    });
  return term;
}

}  // namespace hone::ops
