#include "compress/rotation.h"

#include <algorithm>
#include <cmath>
#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>

#include "base/error.h"
#include "base/spelling.h"
#include "base/stop.h"
#include "kernels/gemm/gemm.h"
#include "kernels/rows/elementwise.h"
#include "media/medium.h"
#include "weights/dense_weight.h"

namespace hone {
namespace {

// Rows of the stream that go through a block together.
constexpr int64_t rotated_rows_at_once = 2048;

// Of a matrix that loses columns: what is added to its Gram matrix's diagonal, of its mean.
constexpr double bias_dampening = 1e-6;

// Which norm parameters of that role read; none: no norm of the stream.
std::optional<NormPlace> norm_read_by(Role role, int64_t layer) {
  switch (role) {
    case Role::qkv:
    case Role::mixer_input:
      return NormPlace{NormOf::mixer, layer};
    case Role::up:
    case Role::router:
    case Role::shared_gate:
      return NormPlace{NormOf::feed_forward, layer};
    case Role::head:
      return NormPlace{};
    default:
      return {};
  }
}

bool of_stream(NormOf of) {
  return of == NormOf::mixer || of == NormOf::feed_forward || of == NormOf::last;
}

Tensor product_of(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b) {
  const Tensor c = Tensor::empty({a.dim(transpose_a ? 1 : 0), b.dim(transpose_b ? 0 : 1)});
  kernels::gemm(a.view(), transpose_a, b.view(), transpose_b, c.view());
  return c;
}

// Rows of the last dimension times a matrix, in the shape that they had.
Tensor rows_times(const Tensor& rows, const Tensor& matrix) {
  Shape shape = rows.shape();
  shape[shape.size() - 1] = matrix.dim(1);
  const kernels::ConstView view = rows.view();
  return product_of(rows.reshape({view.rows, view.cols}), false, matrix, false).reshape(shape);
}

// W x, of a vector.
Tensor times_vector(const Tensor& matrix, const Tensor& vector) {
  return product_of(matrix, false, vector.reshape({vector.size(), 1}), false).reshape({matrix.dim(0)});
}

bool all_zero(const Tensor& t) {
  return std::ranges::all_of(t.span<float>(), [](float x) { return x == 0; });
}

// The b that M b comes nearest to c with.
Tensor nearest_source(const Tensor& matrix, const Tensor& c) {
  const int64_t n = matrix.dim(1);
  const Tensor solution = Tensor::zeros({n});
  if (all_zero(c)) return solution;
  using RowMajorMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::MatrixXd m = Eigen::Map<const RowMajorMatrix>(matrix.data<float>(), matrix.dim(0), n).cast<double>();
  const Eigen::VectorXd target = Eigen::Map<const Eigen::VectorXf>(c.data<float>(), c.size()).cast<double>();
  Eigen::MatrixXd gram = m.transpose() * m;
  gram.diagonal().array() += std::max(bias_dampening * gram.diagonal().mean(), 1e-30);
  const Eigen::VectorXd found = gram.llt().solve(m.transpose() * target);
  for (int64_t i = 0; i < n; ++i) solution.data<float>()[i] = static_cast<float>(found[i]);
  return solution;
}

void set_value(Parameter& parameter, const Tensor& value) {
  parameter.value = value;
  ++parameter.version;
}

Tensor sum_of_vectors(const Tensor& a, const Tensor& b, float times_b = 1) {
  const Tensor sum = a.clone();
  for (int64_t i = 0; i < sum.size(); ++i) sum.data<float>()[i] += times_b * b.data<float>()[i];
  return sum;
}

Config rotated_config(Config config, int64_t kept) {
  config.block.dim = kept;
  config.block.norm = norm_named("rms_norm");
  config.tied = false;
  return config;
}

// Everything but what reads norms: that is read()'s.
class Writing : public Visitor {
 public:
  Writing(const std::map<std::string, const Weight*>& weights,
          const std::map<std::string, const Parameter*>& parameters, const Tensor& writing, float gain)
      : weights_(weights), parameters_(parameters), writing_(writing), gain_(gain) {}

  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    check_stop();
    if (norm_read_by(info.role, info.layer)) return;
    const Tensor old = weights_.at(info.name)->to_dense();
    if (info.role == Role::embedding)
      weight = std::make_shared<DenseWeight>(product_of(old, false, writing_, false));
    else if (ends_branch(info.role))
      weight = std::make_shared<DenseWeight>(product_of(writing_, true, old, false));
    else
      throw internal_error("'{}' neither reads nor writes the stream", info.name);
  }

  void parameter(const ParameterInfo& info, Parameter& parameter) override {
    if (of_stream(info.norm)) {
      std::ranges::fill(parameter.value.span<float>(), info.role == Role::gain ? gain_ : 0.0f);
      return;
    }
    if (norm_read_by(info.of, info.layer)) return;
    const Tensor& old = parameters_.at(info.name)->value;
    const bool writes = info.role == Role::position || (info.role == Role::bias && ends_branch(info.of));
    set_value(parameter, writes ? rows_times(old, writing_) : old.clone());
  }

 private:
  const std::map<std::string, const Weight*>& weights_;
  const std::map<std::string, const Parameter*>& parameters_;
  const Tensor& writing_;
  float gain_;
};

// Those that read one norm, and its bias.
class ReadingOfNorm : public Visitor {
 public:
  ReadingOfNorm(const std::map<std::string, const Weight*>& weights,
                const std::map<std::string, const Parameter*>& parameters, const NormPlace& place,
                const NormReading& reading, const std::string& head)
      : weights_(weights), parameters_(parameters), place_(place), reading_(reading), head_(head) {
    shift_ = nearest_source(reading.matrix, reading.constant);
    rest_ = sum_of_vectors(reading.constant, times_vector(reading.matrix, shift_), -1);
  }

  // A norm without a bias leaves all of the constant to those who read it.
  void without_shift() {
    shift_ = Tensor::zeros(shift_.shape());
    rest_ = reading_.constant;
  }

  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    if (norm_read_by(info.role, info.layer) != place_) return;
    old_ = weights_.at(info.role == Role::head ? head_ : info.name)->to_dense();
    weight = std::make_shared<DenseWeight>(product_of(old_, false, reading_.matrix, false));
  }

  void parameter(const ParameterInfo& info, Parameter& parameter) override {
    if (info.norm == place_.of && info.layer == place_.layer) {
      if (info.role == Role::bias) set_value(parameter, shift_);
    } else if (norm_read_by(info.of, info.layer) == place_) {
      const Tensor& old = parameters_.at(info.name)->value;
      if (info.role == Role::bias)  // shown right behind its matrix
        set_value(parameter, sum_of_vectors(old, times_vector(old_, rest_)));
      else
        set_value(parameter, rows_times(old, reading_.matrix));
    }
  }

 private:
  const std::map<std::string, const Weight*>& weights_;
  const std::map<std::string, const Parameter*>& parameters_;
  const NormPlace& place_;
  const NormReading& reading_;
  const std::string& head_;
  Tensor shift_, rest_;  // the norm's bias, and what it cannot give
  Tensor old_;           // the whole model's, of the matrix that was shown last
};

struct PartsOfModel : Reader {
  PartsOfModel(std::map<std::string, const Weight*>& weights, std::map<std::string, const Parameter*>& parameters)
      : weights_(weights), parameters_(parameters) {}
  void weight(const ParameterInfo& info, const Weight& weight) override { weights_[info.name] = &weight; }
  void parameter(const ParameterInfo& info, const Parameter& parameter) override {
    parameters_[info.name] = &parameter;
  }
  std::map<std::string, const Weight*>& weights_;
  std::map<std::string, const Parameter*>& parameters_;
};

}  // namespace

std::optional<std::string> rotation_obstacle(const Config& config) {
  const NormInfo& norm = info_of(config.block.norm);
  if (!norm.rotates) return fmt::format("{} does not turn with the rows that it norms", norm.what);
  if (!config.encoders.empty())
    return fmt::format("the model takes {}, whose encoders make rows of its width",
                       either_of(media_words(&Medium::plural)));
  for (size_t i = 0; i < config.layers.size(); ++i) {
    if (config.layers[i].exit)
      return fmt::format(
          "layer {} has an exit, whose norm has a gain of its own, and the head that all exits share can take but one; "
          "give the smaller model exits instead",
          i);
    if (config.layers[i].depth_fraction > 0)
      return fmt::format("layer {} lets only some tokens through; give the smaller model such routers instead", i);
  }
  return {};
}

StreamWalk::StreamWalk(const Transformer& model, const CalibrationText& text, DType type) : model_(model) {
  text.require_text("a rotation of the stream");
  const int64_t most = std::max<int64_t>(1, rotated_rows_at_once / text.length);
  for (int64_t first = 0; first < text.windows; first += most) {
    check_stop();
    const int64_t count = std::min(most, text.windows - first);
    Part part{model.call(Batch::whole(count, text.length), type), {}};
    const auto ids =
        std::span(text.ids).subspan(static_cast<size_t>(first * text.length), static_cast<size_t>(count * text.length));
    part.stream = model.embed(ids, part.call);
    parts_.push_back(std::move(part));
  }
}

// Of parallel halves the second reads what the first did: the sum without its branch.
Tensor StreamWalk::normed(size_t part, const NormPlace& place, const Norm& norm) const {
  const Stream& stream = parts_[part].stream;
  const bool without = place.of == NormOf::feed_forward && model_.blocks()[static_cast<size_t>(place.layer)].parallel;
  const Var branch = stream.branch && !without ? Var(stream.branch.value().to(DType::f32)) : Var();
  return norm.forward(stream.residual, branch, DType::f32).y.value();
}

Tensor StreamWalk::stream(size_t part) const {
  return sum_of_stream(parts_[part].stream);
}

Stream StreamWalk::behind(const Stream& stream, const NormPlace& place, const Call& call) const {
  check_stop();
  const Block& block = model_.blocks()[static_cast<size_t>(place.layer)];
  return place.of == NormOf::mixer ? block.mix(stream, call, place.layer, nullptr)
                                   : block.feed(stream, call, place.layer);
}

Tensor StreamWalk::stream_behind(size_t part, const NormPlace& place, InputObserver& inputs) const {
  Call call = parts_[part].call;
  call.trace.inputs = &inputs;
  return sum_of_stream(behind(parts_[part].stream, place, call));
}

void StreamWalk::pass(const NormPlace& place) {
  if (place.of == NormOf::last) return;
  for (Part& part : parts_) part.stream = behind(part.stream, place, part.call);
}

std::vector<NormPlace> norms_of_stream(const Transformer& model) {
  std::vector<NormPlace> places;
  for (int64_t i = 0; i < model.layers(); ++i) {
    const Block& block = model.blocks()[static_cast<size_t>(i)];
    if (block.mixer) places.push_back({NormOf::mixer, i});
    if (block.feed_forward) places.push_back({NormOf::feed_forward, i});
  }
  places.push_back({});
  return places;
}

const Norm& norm_at(const Transformer& model, const NormPlace& place) {
  if (place.of == NormOf::last) return model.last_norm();
  const Block& block = model.blocks()[static_cast<size_t>(place.layer)];
  return place.of == NormOf::mixer ? block.mixer_norm : block.feed_forward_norm;
}

Tensor stream_axes(const Transformer& model, const CalibrationText& text, DType type,
                   const std::function<void(int64_t, int64_t)>& progress) {
  const NoTape pause;
  const int64_t dim = model.config().block.dim;
  const Norm plain = Norm::make(model.config().block);
  StreamWalk walk(model, text, type);
  GramMatrix gram(dim);
  const std::vector<NormPlace> places = norms_of_stream(model);
  for (size_t i = 0; i < places.size(); ++i) {
    for (size_t part = 0; part < walk.parts(); ++part) gram.add(walk.normed(part, places[i], plain).view());
    walk.pass(places[i]);
    if (progress) progress(static_cast<int64_t>(i) + 1, static_cast<int64_t>(places.size()));
  }
  const Tensor& sums = gram.sums();
  if (!kernels::all_finite(sums.view()))
    throw input_error("the residual stream of the calibration text is not finite numbers");
  const Eigen::MatrixXd matrix = Eigen::Map<const Eigen::MatrixXf>(sums.data<float>(), dim, dim).cast<double>();
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(matrix);  // ascending
  if (solver.info() != Eigen::Success) throw internal_error("no axes of a stream of {} were found", dim);
  const Tensor axes = Tensor::empty({dim, dim});
  for (int64_t r = 0; r < dim; ++r)
    for (int64_t c = 0; c < dim; ++c)
      axes.data<float>()[r * dim + c] = static_cast<float>(solver.eigenvectors()(r, dim - 1 - c));
  return axes;
}

Tensor first_columns(const Tensor& matrix, int64_t count) {
  const Tensor first = Tensor::empty({matrix.dim(0), count});
  for (int64_t r = 0; r < matrix.dim(0); ++r)
    std::copy_n(matrix.data<float>() + r * matrix.dim(1), count, first.data<float>() + r * count);
  return first;
}

RotatedModel::RotatedModel(const Transformer& whole, const Tensor& axes) : whole_(whole), axes_(axes) {
  const int64_t dim = axes.dim(0), kept = axes.dim(1);
  const Config& config = whole.config();
  PartsOfModel parts(weights_, parameters_);
  whole.visit(parts);
  const auto length = static_cast<float>(std::sqrt(static_cast<double>(kept) / static_cast<double>(dim)));
  writing_ = axes.clone();
  for (int64_t c = 0; c < kept; ++c) {
    double sum = 0;
    for (int64_t r = 0; r < dim; ++r) sum += static_cast<double>(axes.data<float>()[r * kept + c]);
    const float mean = info_of(config.block.norm).centres ? static_cast<float>(sum / static_cast<double>(dim)) : 0;
    for (int64_t r = 0; r < dim; ++r) {
      float& w = writing_.data<float>()[r * kept + c];
      w = length * (w - mean);
    }
  }
  model_ = std::make_unique<Transformer>(rotated_config(config, kept));
  plain_ = Norm::make(model_->config().block);
  std::ranges::fill(plain_.gain->value.span<float>(), 1 / length);
  Writing writer(weights_, parameters_, writing_, 1 / length);
  model_->visit(writer);
  for (const NormPlace& place : norms_of_stream(whole)) read(place, reading(place));
}

NormReading RotatedModel::reading(const NormPlace& place) const {
  const Norm& norm = norm_at(whole_, place);
  const int64_t dim = axes_.dim(0), kept = axes_.dim(1);
  NormReading reading{axes_.clone(), norm.bias ? norm.bias->value.clone() : Tensor::zeros({dim})};
  for (int64_t r = 0; r < dim; ++r)
    for (int64_t c = 0; c < kept; ++c) reading.matrix.data<float>()[r * kept + c] *= norm.gain->value.data<float>()[r];
  return reading;
}

void RotatedModel::read(const NormPlace& place, const NormReading& reading) {
  const std::string head = whole_.head_name();
  ReadingOfNorm reader(weights_, parameters_, place, reading, head);
  if (!whole_.config().block.biases) reader.without_shift();
  model_->visit(reader);
}

}  // namespace hone
