// The kernels that `bench --kernels` measures, but for attention and packed weights, which have files of their own.
#include <algorithm>
#include <memory>

#include "base/random.h"
#include "bench/kernel_bench_cases.h"
#include "kernels/gemm/bf16.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/int8.h"
#include "kernels/rows/elementwise.h"
#include "ops/linear.h"
#include "ops/mixture.h"
#include "train/optimizers/muon.h"
#include "weights/dense_weight.h"

namespace hone {
namespace kernel_bench {

Tensor random_tensor(Shape shape, DType type) {
  Random random(1, "kernels");
  Tensor t = Tensor::empty(std::move(shape));
  for (float& x : t.span<float>()) x = static_cast<float>(random.uniform() - 0.5);
  return t.to(type);
}

int64_t large_bytes() {
  return std::clamp<int64_t>(4 * kernels::last_level_cache_bytes(), int64_t{128} << 20, int64_t{1} << 30);
}

}  // namespace kernel_bench

using kernel_bench::dim, kernel_bench::ffn, kernel_bench::random_tensor;

namespace {

constexpr int64_t vocabulary = 50304;

// A kernel that reads and writes each of `arrays` once; one that is read and written stands there twice.
KernelCase streaming(std::vector<Tensor> arrays, std::function<void()> run) {
  double bytes = 0;
  for (const Tensor& t : arrays) bytes += static_cast<double>(t.bytes());
  return {DType::f32, 0, bytes, std::move(run), std::move(arrays)};
}

// --- dense products ---

constexpr int64_t product_rows = 2048;
constexpr double product_flops = 2.0 * product_rows * dim * ffn;

// y = x W^T, W [ffn, dim]
template <DType type>
KernelCase gemm_forward() {
  const Tensor x = random_tensor({product_rows, dim}, type), w = random_tensor({ffn, dim});
  const Tensor y = Tensor::empty({product_rows, ffn}, type);
  if (type == DType::f32)
    return {type, product_flops, 0, [=] { kernels::gemm(x.view(), false, w.view(), true, y.view()); }};
  const Tensor panels = Tensor::empty({kernels::panel_elements(ffn, dim)}, DType::bf16);
  kernels::pack_panels(w.view(), false, panels.data<bf16>());
  return {type, product_flops, 0, [=] { kernels::gemm_panels(x.view(), panels.data<bf16>(), ffn, dim, y.view()); }};
}

// dx = dy W
template <DType type>
KernelCase gemm_dx() {
  const Tensor dy = random_tensor({product_rows, ffn}, type), w = random_tensor({ffn, dim});
  const Tensor dx = Tensor::empty({product_rows, dim}, type);
  if (type == DType::f32)
    return {type, product_flops, 0, [=] { kernels::gemm(dy.view(), false, w.view(), false, dx.view()); }};
  const Tensor panels = Tensor::empty({kernels::panel_elements(dim, ffn)}, DType::bf16);
  kernels::pack_panels(w.view(), true, panels.data<bf16>());
  return {type, product_flops, 0, [=] { kernels::gemm_panels(dy.view(), panels.data<bf16>(), dim, ffn, dx.view()); }};
}

// dW = dy^T x, in f32
template <DType type>
KernelCase gemm_dw() {
  const Tensor dy = random_tensor({product_rows, ffn}, type), x = random_tensor({product_rows, dim}, type);
  const Tensor dw = Tensor::empty({ffn, dim});
  return {type, product_flops, 0, [=] { kernels::gemm(dy.view(), true, x.view(), false, dw.view()); }};
}

// The products of training in 8 bits, what makes integers of x (by chance, as of gradients, where `transposed`)
// included; of the operations that bf16 would take.
template <bool transposed>
KernelCase gemm_int8() {
  const int64_t n = transposed ? dim : ffn, k = transposed ? ffn : dim;
  const Tensor x = random_tensor({product_rows, k}, DType::bf16), y = Tensor::empty({product_rows, n}, DType::bf16);
  const auto w = std::make_shared<DenseWeight>(random_tensor({ffn, dim}));
  const kernels::Rounding rounding = {transposed ? std::optional<uint64_t>(1) : std::nullopt};
  return {DType::bf16, product_flops, 0,
          [=] { kernels::packed_matmul_8(*w->integers(transposed), x.view(), y.view(), rounding); }};
}

// The same in our own products, where the library's go before them.
KernelCase own_forward() {
  const Tensor x = random_tensor({product_rows, dim}, DType::bf16), w = random_tensor({ffn, dim});
  const Tensor y = Tensor::empty({product_rows, ffn}, DType::bf16);
  const Tensor panels = Tensor::empty({kernels::panel_elements(ffn, dim)}, DType::bf16);
  kernels::pack_panels(w.view(), false, panels.data<bf16>());
  return {DType::bf16, product_flops, 0, [=] {
            kernels::own::available() ? kernels::own::gemm_panels(x.view(), panels.data<bf16>(), ffn, dim, y.view())
                                      : kernels::gemm_panels(x.view(), panels.data<bf16>(), ffn, dim, y.view());
          }};
}

KernelCase own_dw() {
  const Tensor dy = random_tensor({product_rows, ffn}, DType::bf16),
               x = random_tensor({product_rows, dim}, DType::bf16);
  const Tensor dw = Tensor::empty({ffn, dim});
  return {DType::bf16, product_flops, 0, [=] {
            kernels::own::available() ? kernels::own::gemm_gradient(dy.view(), x.view(), dw.view(), false)
                                      : kernels::gemm(dy.view(), true, x.view(), false, dw.view());
          }};
}

// --- products of experts ---

constexpr int64_t experts = 8;

// Rows by expert, as uneven as a balanced router leaves them: 1.5 times the mean down to 0.6 of it.
std::shared_ptr<ops::RoutePlan> uneven_plan(int64_t rows) {
  constexpr int64_t hundredths[experts] = {105, 60, 150, 95, 80, 125, 70, 115};
  auto plan = std::make_shared<ops::RoutePlan>();
  plan->rows = plan->slots = rows;
  plan->top_k = 1;
  plan->offsets = {0};
  int64_t parts = 0;
  for (const int64_t part : hundredths) plan->offsets.push_back(rows * (parts += part) / (100 * experts));
  return plan;
}

// The same rows through one weight each, and through one of all. With gradients: forward, dx and dW.
template <int64_t rows, int64_t inputs, int64_t outputs, bool gradients>
KernelCase grouped_product() {
  const auto plan = uneven_plan(rows);
  const Var x(random_tensor({rows, inputs}, DType::bf16), gradients);
  std::vector<ops::ExpertLinear> layers;
  for (int64_t e = 0; e < experts; ++e)
    layers.push_back({std::make_shared<DenseWeight>(random_tensor({outputs, inputs})), nullptr});
  const auto dense = std::make_shared<DenseWeight>(random_tensor({outputs, inputs}));
  const Tensor dy = random_tensor({rows, outputs}, DType::bf16);
  const auto with_gradients = [x, dy](const auto& product) {
    if (!gradients) {
      product();
      return;
    }
    Tape tape;
    tape.backward(product(), dy.clone());
    x.take_grad();
  };
  KernelCase result{DType::bf16, (gradients ? 6.0 : 2.0) * rows * inputs * outputs, 0, {}};
  result.run = [=] { with_gradients([&] { return ops::grouped_linear(x, plan, layers); }); };
  result.dense = [=] { with_gradients([&] { return ops::linear(x, dense); }); };
  return result;
}

// --- elementwise ---

constexpr int64_t many_rows = 16384;  // of dim: 25 MB in bf16, 50 MB in f32

KernelCase norm_forward() {
  const Tensor residual = random_tensor({many_rows, dim}), branch = random_tensor({many_rows, dim}, DType::bf16);
  const Tensor sum = Tensor::empty({many_rows, dim}), y = Tensor::empty({many_rows, dim}, DType::bf16);
  const Tensor gain = random_tensor({dim}), inverse = Tensor::empty({many_rows});
  kernels::NormForward a;
  a.residual = residual.view();
  a.branch = branch.view();
  a.residual_out = sum.view();
  a.y = y.view();
  a.gain = gain.data<float>();
  a.inverse = inverse.data<float>();
  return streaming({residual, branch, sum, y, gain, inverse}, [a] { kernels::norm_forward(a); });
}

KernelCase norm_backward() {
  const Tensor x = random_tensor({many_rows, dim}), dy = random_tensor({many_rows, dim}, DType::bf16);
  const Tensor d_residual = random_tensor({many_rows, dim}), d_branch = Tensor::empty({many_rows, dim}, DType::bf16);
  const Tensor gain = random_tensor({dim}), inverse = random_tensor({many_rows}), d_gain = Tensor::zeros({dim});
  kernels::NormBackward a;
  a.x = x.view();
  a.dy = dy.view();
  a.d_residual = d_residual.view();
  a.d_branch = d_branch.view();
  a.gain = gain.data<float>();
  a.inverse = inverse.data<float>();
  a.d_gain = d_gain.data<float>();
  return streaming({x, dy, d_residual, d_residual, d_branch, gain, inverse, d_gain},
                   [a] { kernels::norm_backward(a); });
}

constexpr int64_t gated_rows = 8192;

KernelCase swiglu_forward() {
  const Tensor gate_up = random_tensor({gated_rows, 2 * ffn}, DType::bf16),
               y = Tensor::empty({gated_rows, ffn}, DType::bf16);
  return streaming({gate_up, y}, [=] { kernels::swiglu_forward(gate_up.view(), y.view()); });
}

KernelCase swiglu_backward() {
  const Tensor gate_up = random_tensor({gated_rows, 2 * ffn}, DType::bf16),
               dy = random_tensor({gated_rows, ffn}, DType::bf16);
  const Tensor d_gate_up = Tensor::empty({gated_rows, 2 * ffn}, DType::bf16);
  return streaming({gate_up, dy, d_gate_up},
                   [=] { kernels::swiglu_backward(gate_up.view(), dy.view(), d_gate_up.view()); });
}

// Loss and gradient; a run finds the gradients of the one before as logits, which costs the same.
KernelCase cross_entropy() {
  constexpr int64_t rows = 1024;
  const Tensor logits = random_tensor({rows, vocabulary}, DType::bf16), losses = Tensor::empty({rows});
  const Tensor correct = Tensor::empty({rows}, DType::u8);
  const auto targets = std::make_shared<std::vector<int32_t>>(static_cast<size_t>(rows), 7);
  return streaming({logits, logits}, [=] {
    kernels::CrossEntropy a;
    a.logits = logits.view();
    a.vocabulary = vocabulary;
    a.targets = targets->data();
    a.losses = losses.data<float>();
    a.correct = correct.data<uint8_t>();
    a.gradient_scale = 1;
    kernels::cross_entropy(a);
  });
}

KernelCase adamw() {
  constexpr int64_t count = 16 << 20;
  const Tensor value = random_tensor({count}), grad = random_tensor({count}), m = Tensor::zeros({count}),
               v = Tensor::zeros({count});
  kernels::AdamW a;
  a.count = count;
  a.value = value.data<float>();
  a.grad = grad.data<float>();
  a.m = m.data<float>();
  a.v = v.data<float>();
  a.learning_rate = 1e-4f;
  return streaming({value, value, grad, m, m, v, v}, [a] { kernels::adamw(a); });
}

// What Muon makes of a momentum of [rows, cols]: five polynomials, each of two products with the longer side and one of
// the squares (train/optimizers/muon.h). A run finds the orthogonal matrix of the one before, which costs the same.
template <int64_t rows, int64_t cols>
KernelCase orthogonalize() {
  constexpr double small = std::min(rows, cols), flops = 5 * (4.0 * small * rows * cols + 2 * small * small * small);
  const Tensor x = random_tensor({rows, cols});
  return {DType::bf16, flops, 0, [=] { hone::orthogonalize(x.view(), DType::bf16); }};
}

KernelCase pack_panels() {
  constexpr int64_t rows = 16384, cols = 2048;
  const Tensor w = random_tensor({rows, cols}),
               panels = Tensor::empty({kernels::panel_elements(rows, cols)}, DType::bf16);
  return streaming({w, panels}, [=] { kernels::pack_panels(w.view(), false, panels.data<bf16>()); });
}

template <bool transposed>
KernelCase pack_int8() {
  constexpr int64_t rows = 16384, cols = 2048;
  const kernels::Int8Sizes sizes = transposed ? kernels::int8_sizes(cols, rows) : kernels::int8_sizes(rows, cols);
  const Tensor w = random_tensor({rows, cols}), values = Tensor::empty({sizes.values}, DType::u8),
               scales = Tensor::empty({sizes.scales}, DType::bf16);
  return streaming({w, values, scales},
                   [=] { kernels::pack_int8(w.view(), transposed, values.data<uint8_t>(), scales.data<bf16>()); });
}

const KernelEntry table[] = {
    {"gemm_forward", "2048 x 768 -> 3072 f32", true, gemm_forward<DType::f32>},
    {"gemm_dx", "2048 x 3072 -> 768 f32", true, gemm_dx<DType::f32>},
    {"gemm_dw", "3072 x 768, 2048 rows f32", true, gemm_dw<DType::f32>},
    {"gemm_forward", "2048 x 768 -> 3072 bf16", true, gemm_forward<DType::bf16>},
    {"gemm_dx", "2048 x 3072 -> 768 bf16", true, gemm_dx<DType::bf16>},
    {"gemm_dw", "3072 x 768, 2048 rows bf16", true, gemm_dw<DType::bf16>},
    {"gemm_forward", "2048 x 768 -> 3072 int8", false, gemm_int8<false>},
    {"gemm_dx", "2048 x 3072 -> 768 int8", false, gemm_int8<true>},
    {"grouped_product", "512 rows of 8 experts 384 -> 768 bf16", true, grouped_product<512, 384, 768, false>},
    {"grouped_product", "4096 rows of 8 experts 384 -> 768 bf16", true, grouped_product<4096, 384, 768, false>},
    {"grouped_product", "512 rows of 8 experts 768 -> 1536 bf16", true, grouped_product<512, 768, 1536, false>},
    {"grouped_product", "4096 rows of 8 experts 768 -> 1536 bf16", true, grouped_product<4096, 768, 1536, false>},
    {"grouped_gradients", "512 rows of 8 experts 384 -> 768 bf16", true, grouped_product<512, 384, 768, true>},
    {"grouped_gradients", "4096 rows of 8 experts 384 -> 768 bf16", true, grouped_product<4096, 384, 768, true>},
    {"orthogonalize", "768 x 768 bf16", true, orthogonalize<dim, dim>},
    {"orthogonalize", "3072 x 768 bf16", true, orthogonalize<ffn, dim>},
    {"norm_forward", "16384 x 768, with residual", false, norm_forward},
    {"norm_backward", "16384 x 768, with residual", false, norm_backward},
    {"swiglu_forward", "8192 x 3072 bf16", false, swiglu_forward},
    {"swiglu_backward", "8192 x 3072 bf16", false, swiglu_backward},
    {"cross_entropy", "1024 x 50304 bf16, with gradient", false, cross_entropy},
    {"adamw", "16.8M parameters", false, adamw},
    {"pack_panels", "16384 x 2048", false, pack_panels},
    {"pack_int8", "16384 x 2048", false, pack_int8<false>},
    {"pack_int8", "16384 x 2048, transposed", false, pack_int8<true>},
};

}  // namespace

std::span<const KernelEntry> kernel_entries() {
  static const std::vector<KernelEntry> entries = [] {
    std::vector<KernelEntry> all(std::begin(table), std::end(table));
    kernel_bench::add_attention_entries(all);
    kernel_bench::add_packed_entries(all);
    if (isa() >= Isa::amx) {
      all.push_back({"own_forward", "2048 x 768 -> 3072 bf16", false, own_forward});
      all.push_back({"own_dw", "3072 x 768, 2048 rows bf16", false, own_dw});
    }
    return all;
  }();
  return entries;
}

}  // namespace hone
