#include "compress/correction.h"

#include <algorithm>
#include <Eigen/Cholesky>

#include "base/error.h"
#include "compress/units.h"
#include "kernels/gemm/gemm.h"
#include "kernels/rows/elementwise.h"

namespace hone {

Correction::Correction(int64_t inputs, int64_t outputs, bool centred)
    : centred_(centred),
      inputs_(moment_needs(centred), inputs, false),
      products_(Tensor::zeros({outputs, inputs})),
      sums_(static_cast<size_t>(outputs)) {}

void Correction::add(kernels::ConstView x, const Tensor& lacking) {
  if (x.rows == 0) return;
  Tensor rows = Tensor::empty({x.rows, x.cols});
  kernels::convert(x, rows.view());
  inputs_.add(rows.view());
  kernels::gemm(lacking.view(), true, rows.view(), false, products_.view(), true);
  const float* r = lacking.data<float>();
  for (int64_t row = 0; row < x.rows; ++row)
    for (double& sum : sums_) {
      const double lacks = static_cast<double>(*r++);
      sum += lacks;
      squares_ += lacks * lacks;
    }
}

Correction::Found Correction::find(const std::string& where) const {
  const InputMoments moments = moments_of(&inputs_, inputs_.cols(), centred_, where);
  const double tokens = static_cast<double>(std::max<int64_t>(inputs_.tokens(), 1));
  const int64_t outputs = products_.dim(0), inputs = products_.dim(1);
  using RowMajorProducts = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Eigen::MatrixXd cross =
      Eigen::Map<const RowMajorProducts>(products_.data<float>(), outputs, inputs).cast<double>() / tokens;
  const Eigen::VectorXd mean = Eigen::Map<const Eigen::VectorXd>(sums_.data(), outputs) / tokens;
  const Eigen::Map<const Eigen::VectorXd> means(moments.means.data(), inputs);  // 0 unless centred
  cross.noalias() -= mean * means.transpose();
  if (!cross.allFinite()) throw input_error("'{}': what it lacks in the calibration is not finite", where);
  const Eigen::Map<const Eigen::MatrixXd> gram(moments.gram.data(), inputs, inputs);
  const Eigen::MatrixXd matrix = gram.llt().solve(cross.transpose()).transpose();
  Found found{Tensor::empty({outputs, inputs}), Tensor::zeros({outputs}), squares_ / tokens, 0};
  Eigen::Map<RowMajorProducts>(found.matrix.data<float>(), outputs, inputs) = matrix.cast<float>();
  double whole = found.before;
  if (centred_) {
    const Eigen::VectorXd constant = mean - matrix * means;
    for (int64_t i = 0; i < outputs; ++i) found.constant.data<float>()[i] = static_cast<float>(constant[i]);
    whole -= mean.squaredNorm();
  }
  // tr(R) - 2 tr(D C^T) + tr(D G D^T), where D (G + damping) = C.
  found.after = std::max(0.0, whole - matrix.cwiseProduct(cross).sum() - moments.damping * matrix.squaredNorm());
  return found;
}

}  // namespace hone
