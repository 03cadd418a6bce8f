#include "ops/norm.h"

#include "kernels/rows/elementwise.h"

namespace hone::ops {
namespace {

// `center`: without the mean.
Normed add_norm(const Var& residual, const Var& branch, Parameter& gain, Parameter* bias, bool center, float epsilon,
                DType type) {
  const Shape& shape = residual.shape();
  const int64_t rows = residual.value().view().rows;
  const Tensor sum = branch ? Tensor::empty(shape) : residual.value();
  const Tensor y = Tensor::empty(shape, type);
  const bool records = Tape::recording();  // only the way back asks what rows were divided by
  const Tensor mean = records ? Tensor::empty({rows}) : Tensor(), inverse = records ? Tensor::empty({rows}) : Tensor();
  kernels::NormForward forward;
  forward.residual = residual.value().view();
  if (branch) {
    forward.branch = branch.value().view();
    forward.residual_out = sum.view();
  }
  forward.y = y.view();
  forward.gain = gain.value.data<float>();
  forward.bias = bias ? bias->value.data<float>() : nullptr;
  forward.center = center;
  forward.epsilon = epsilon;
  if (records) {
    forward.mean = mean.data<float>();
    forward.inverse = inverse.data<float>();
  }
  kernels::norm_forward(forward);
  if (!records) return {branch ? Var(sum) : residual, Var(y)};

  const Var residual_out(sum, true), output(y, true);
  Tape::record([residual, branch, &gain, bias, center, mean, inverse, residual_out, output] {
    // The gradient that reached the sum directly becomes, in place, the whole gradient of the sum.
    const Tensor d = residual_out.take_grad();
    const Tensor dy = output.take_grad();
    const Tensor d_branch =
        branch && branch.wants_grad() ? Tensor::empty(branch.shape(), branch.value().dtype()) : Tensor();
    kernels::NormBackward backward;
    backward.x = residual_out.value().view();
    backward.dy = dy.view();
    backward.d_residual = d.view();
    if (d_branch) backward.d_branch = d_branch.view();
    backward.gain = gain.value.data<float>();
    backward.mean = mean.data<float>();
    backward.inverse = inverse.data<float>();
    backward.center = center;
    if (gain.trainable) backward.d_gain = gradient_to_add(gain).data<float>();
    if (bias && bias->trainable) backward.d_bias = gradient_to_add(*bias).data<float>();
    kernels::norm_backward(backward);
    residual.add_grad(d);
    if (d_branch) branch.add_grad(d_branch);
  });
  return {residual_out, output};
}

}  // namespace

Normed add_rms_norm(const Var& residual, const Var& branch, Parameter& gain, Parameter* bias, float epsilon,
                    DType type) {
  return add_norm(residual, branch, gain, bias, false, epsilon, type);
}

Normed add_layer_norm(const Var& residual, const Var& branch, Parameter& gain, Parameter* bias, float epsilon,
                      DType type) {
  return add_norm(residual, branch, gain, bias, true, epsilon, type);
}

}  // namespace hone::ops
