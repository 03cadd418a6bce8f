#include "ops/short_conv.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "kernels/parallel.h"
#include "support/check.h"

using namespace hone;
using namespace hone::test;

namespace {

using Spans = std::vector<kernels::ShortConvSpan>;

Parameter kernel_of(int64_t width, int64_t taps, uint64_t seed) {
  Parameter p;
  p.value = random_tensor({width, taps}, seed);
  return p;
}

// In f64, as the definition says.
Tensor expected_of(const Tensor& in, const Tensor& kernel, const Spans& spans) {
  const int64_t width = kernel.dim(0), taps = kernel.dim(1);
  const Tensor out = Tensor::empty({in.dim(0), width});
  const auto at = [&](int64_t row, int64_t part, int64_t c) {
    return static_cast<double>(in.data<float>()[(row * 3 + part) * width + c]);
  };
  for (const kernels::ShortConvSpan& span : spans)
    for (int64_t t = 0; t < span.rows; ++t)
      for (int64_t c = 0; c < width; ++c) {
        double sum = 0;
        for (int64_t k = 0; k < taps && k <= t; ++k) {
          const int64_t row = span.first_row + t - k;
          sum += static_cast<double>(kernel.data<float>()[c * taps + k]) * at(row, 0, c) * at(row, 2, c);
        }
        out.data<float>()[(span.first_row + t) * width + c] = static_cast<float>(at(span.first_row + t, 1, c) * sum);
      }
  return out;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return std::ranges::equal(a.span<float>(), b.span<float>());
}

}  // namespace

TEST_CASE("short_conv is the sum over the rows before in the same span, between its gates") {
  at_every_isa([] {
    const Spans spans = {{0, 1}, {1, 9}, {10, 3}, {13, 2}};  // shorter than the taps, and longer
    for (const int64_t width : {5, 64, 150})
      for (const int64_t taps : {1, 2, 4, 7}) {
        CAPTURE(width);
        CAPTURE(taps);
        const Tensor in = random_tensor({15, 3 * width}, 1);
        Parameter kernel = kernel_of(width, taps, 2);
        const Tensor expected = expected_of(in, kernel.value, spans);
        CHECK(relative_error(ops::short_conv(Var(in), kernel, spans).value(), expected) < 1e-6);
        const Tensor rounded = ops::short_conv(Var(in.to(DType::bf16)), kernel, spans).value();
        CHECK(rounded.dtype() == DType::bf16);
        CHECK(relative_error(rounded, expected) < 2e-2);
      }
  });
}

TEST_CASE("short_conv: gradients of what goes in and of the kernel, over spans of different lengths") {
  at_every_isa([] {
    const Spans spans = {{0, 2}, {2, 6}, {8, 1}};
    const Tensor x = random_tensor({9, 3 * 6}, 1);
    Parameter kernel = kernel_of(6, 3, 2);
    Var input(x, true);
    const auto run = [&] { return ops::short_conv(input, kernel, spans); };
    check_gradients(
        run, {x, kernel.value}, [&](size_t i) { return i == 0 ? input.grad() : kernel.grad; }, 2e-3);
  });
}

TEST_CASE("short_conv: rows of other spans change nothing, and a kernel that is not trained gets no gradient") {
  const int64_t width = 70;
  const Tensor in = random_tensor({12, 3 * width}, 4), other = in.clone();
  std::fill_n(other.data<float>(), 5 * 3 * width, 9.0f);
  Parameter kernel = kernel_of(width, 4, 5);
  const Spans spans = {{0, 5}, {5, 7}};
  const Tensor a = ops::short_conv(Var(in), kernel, spans).value(),
               b = ops::short_conv(Var(other), kernel, spans).value();
  CHECK(same_bits(a.rows(5, 7), b.rows(5, 7)));
  CHECK_FALSE(same_bits(a.rows(0, 5), b.rows(0, 5)));
  kernel.trainable = false;
  Tape tape;
  const Var out = ops::short_conv(Var(in, true), kernel, spans);
  tape.backward(out, Tensor::zeros(out.shape()));
  CHECK_FALSE(kernel.has_grad);
}

TEST_CASE("a short convolution that goes on from the rows before has the bits of one that saw them, at any cut") {
  at_every_isa([] {
    const int64_t width = 100, taps = 4, rows = 11;
    for (const DType type : {DType::f32, DType::bf16})
      for (const int64_t cut : {1, 2, 5, 10}) {
        CAPTURE(cut);
        const Tensor in = random_tensor({rows, 3 * width}, 7).to(type);
        Parameter kernel = kernel_of(width, taps, 8);
        const kernels::ShortConv conv = ops::short_conv_of(kernel);
        const Tensor whole = Tensor::empty({rows, width}, type), second = Tensor::empty({rows - cut, width}, type);
        const Tensor gated = Tensor::empty({rows, width}), before = Tensor::zeros({taps - 1, width});
        kernels::short_conv_forward(conv, in.view(), Spans{{0, rows}}, whole.view(), gated.data<float>());
        for (int64_t k = std::max<int64_t>(0, taps - 1 - cut); k < taps - 1; ++k)
          std::copy_n(gated.data<float>() + (cut - (taps - 1) + k) * width, width, before.data<float>() + k * width);
        kernels::short_conv_forward(conv, in.rows(cut, rows - cut).view(), Spans{{0, rows - cut, before.data<float>()}},
                                    second.view());
        CHECK(same_bits(second.to(DType::f32), whole.rows(cut, rows - cut).to(DType::f32)));
      }
  });
}

TEST_CASE("a short convolution has the same bits with every number of threads, forward and backward") {
  const int64_t width = 200, rows = 300;
  const Tensor in = random_tensor({rows, 3 * width}, 9), d = random_tensor({rows, width}, 10);
  Parameter kernel = kernel_of(width, 4, 11);
  const Spans spans = {{0, 120}, {120, 180}};
  const int before = kernels::threads();
  std::vector<Tensor> first;
  for (const int threads : {1, 2, 3}) {
    kernels::set_threads(threads);
    const Tensor out = Tensor::empty({rows, width}), d_in = Tensor::empty(in.shape()), dk = Tensor::zeros({width, 4});
    kernels::short_conv_forward(ops::short_conv_of(kernel), in.view(), spans, out.view());
    kernels::short_conv_backward(ops::short_conv_of(kernel), in.view(), d.view(), spans, d_in.view(), dk.data<float>());
    const std::vector<Tensor> now = {out, d_in, dk};
    for (size_t i = 0; i < first.size(); ++i) CHECK(same_bits(now[i], first[i]));
    if (first.empty()) first = now;
  }
  kernels::set_threads(before);
}
