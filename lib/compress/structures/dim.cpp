// The width of the residual stream: it is rotated to the axes along which it varies most (compress/rotation.h), and
// the last ones are cut. What reads the stream is then refitted to what the whole model reads there, and what writes
// into it to what the whole model's stream is along the axes that stay, half a block after the other, each behind what
// has become of those before it.
#include <algorithm>

#include "base/error.h"
#include "base/stop.h"
#include "compress/correction.h"
#include "compress/rotation.h"
#include "compress/structure.h"
#include "compress/structured.h"
#include "kernels/gemm/gemm.h"
#include "kernels/rows/elementwise.h"
#include "weights/dense_weight.h"

namespace hone {
namespace {

constexpr std::string_view dim_error = "dim_error";

void add_to(Tensor& to, const Tensor& other, float times = 1) {
  float* t = to.data<float>();
  const float* o = other.data<float>();
  for (int64_t i = 0; i < to.size(); ++i) t[i] += times * o[i];
}

// What entered one weight.
class RowsOf : public InputObserver {
 public:
  explicit RowsOf(const Weight& weight) : weight_(weight) {}
  void observe(const Weight& weight, kernels::ConstView x) override {
    if (&weight != &weight_) return;
    rows = Tensor::empty({x.rows, x.cols});
    kernels::convert(x, rows.view());
  }
  Tensor rows;

 private:
  const Weight& weight_;
};

// The one matrix by which half a block writes into the stream, with its bias; of a mixture there is none.
class WriterOfHalf : public Visitor {
 public:
  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    if (!ends_branch(info.role)) return;
    many_ = many_ || weight_ || info.expert >= 0;
    weight_ = &weight;
    name = info.name;
  }
  void parameter(const ParameterInfo& info, Parameter& parameter) override {
    if (info.role == Role::bias && ends_branch(info.of)) bias = &parameter;
  }
  std::shared_ptr<Weight>* alone() const { return many_ ? nullptr : weight_; }
  Parameter* bias = nullptr;
  std::string name;

 private:
  std::shared_ptr<Weight>* weight_ = nullptr;
  bool many_ = false;
};

class StreamRefit {
 public:
  StreamRefit(Thinning& thinning, RotatedModel& cut)
      : thinning_(thinning),
        cut_(cut),
        whole_walk_(*thinning.model, thinning.text, thinning.type),
        cut_walk_(cut.model(), thinning.text, thinning.type) {}

  void run() {
    const std::vector<NormPlace> places = norms_of_stream(*thinning_.model);
    for (size_t i = 0; i < places.size(); ++i) {
      check_stop();
      read(places[i]);
      if (places[i].of != NormOf::last) {
        whole_walk_.pass(places[i]);
        write(places[i]);
        cut_walk_.pass(places[i]);
      }
      if (thinning_.progress)
        thinning_.progress("the stream before half block", static_cast<int64_t>(i) + 1,
                           static_cast<int64_t>(places.size()));
    }
  }

 private:
  // y of the whole model's norm against z of the cut one's.
  void read(const NormPlace& place) {
    const bool biased = thinning_.model->config().block.biases;
    const Norm& norm = norm_at(*thinning_.model, place);
    NormReading reading = cut_.reading(place);
    const int64_t dim = reading.matrix.dim(0), kept = reading.matrix.dim(1);
    Correction correction(kept, dim, biased);
    double all = 0, rows = 0;
    for (size_t part = 0; part < whole_walk_.parts(); ++part) {
      const Tensor y = whole_walk_.normed(part, place, norm), z = cut_walk_.normed(part, place, cut_.plain_norm());
      Tensor lacking = Tensor::empty(y.shape());
      kernels::gemm(z.view(), false, reading.matrix.view(), true, lacking.view());
      for (int64_t i = 0; i < y.size(); ++i)
        lacking.data<float>()[i] =
            y.data<float>()[i] - lacking.data<float>()[i] - reading.constant.data<float>()[i % dim];
      correction.add(z.view(), lacking);
      all += kernels::sum_of_squares(y.view());
      rows += static_cast<double>(y.view().rows);
    }
    const Correction::Found found =
        correction.find(place.layer < 0 ? "norm" : fmt::format("blocks.{}: the norm before half of it", place.layer));
    add_to(reading.matrix, found.matrix);
    add_to(reading.constant, found.constant);
    cut_.read(place, reading);
    if (place.layer >= 0 && all > 0) {
      double& error =
          thinning_.layers[static_cast<size_t>(thinning_.from[static_cast<size_t>(place.layer)])].errors[dim_error];
      error = std::max(error, found.after * rows / all);
    }
  }

  // The whole model's stream behind the half, along the axes that stay, against the cut one's.
  void write(const NormPlace& place) {
    WriterOfHalf writer;
    Block& block = cut_.model().blocks()[static_cast<size_t>(place.layer)];
    const Place at = Transformer::place_of_block(place.layer);
    if (place.of == NormOf::mixer)
      block.mixer->visit(at.in(block.mixer->place()), writer);
    else
      block.feed_forward->visit(at.in("feed_forward"), writer);
    if (!writer.alone()) return;
    std::shared_ptr<Weight>& weight = *writer.alone();
    Correction correction(weight->cols(), weight->rows(), writer.bias != nullptr);
    for (size_t part = 0; part < cut_walk_.parts(); ++part) {
      RowsOf entering(*weight);
      const Tensor is = cut_walk_.stream_behind(part, place, entering), whole = whole_walk_.stream(part);
      Tensor lacking = Tensor::empty(is.shape());
      kernels::gemm(whole.view(), false, cut_.writing().view(), false, lacking.view());
      add_to(lacking, is, -1);
      correction.add(entering.rows.view(), lacking);
    }
    const Correction::Found found = correction.find(writer.name);
    Tensor matrix = weight->to_dense().clone();
    add_to(matrix, found.matrix);
    weight = std::make_shared<DenseWeight>(matrix);
    if (!writer.bias) return;
    Tensor bias = writer.bias->value.clone();
    add_to(bias, found.constant);
    writer.bias->value = bias;
    ++writer.bias->version;
  }

  Thinning& thinning_;
  RotatedModel& cut_;
  StreamWalk whole_walk_, cut_walk_;
};

void require_unmasked(const Transformer& model) {
  struct Checker : Reader {
    void weight(const ParameterInfo& info, const Weight& weight) override {
      if (weight.mask())
        throw usage_error(
            "'{}' has a mask, whose zeros a rotation of the residual stream would fill: cut dim first, then prune "
            "weights",
            info.name);
    }
    void parameter(const ParameterInfo&, const Parameter&) override {}
  } checker;
  model.visit(checker);
}

std::vector<int64_t> count_dim(const Amount& amount, const Config& config, int64_t multiple) {
  if (const std::optional<std::string> obstacle = rotation_obstacle(config))
    throw usage_error("structure '{}': {}", amount.text, *obstacle);
  return {width_to_remove(amount, config.block.dim, multiple, "the residual stream's numbers")};
}

// The stream of a second model; moments, their copies in doubles and axes.
double dim_bytes(const Config& config, int64_t tokens) {
  const double dim = static_cast<double>(config.block.dim);
  return 8 * static_cast<double>(tokens) * dim + 40 * dim * dim;
}

void take_dim(Thinning& thinning, const std::vector<int64_t>& count) {
  const NoTape pause;
  const Transformer& whole = *thinning.model;
  require_unmasked(whole);
  const int64_t dim = whole.config().block.dim, kept = dim - count.front();
  const Tensor axes = stream_axes(whole, thinning.text, thinning.type, [&](int64_t done, int64_t all) {
    if (thinning.progress) thinning.progress("the axes before half block", done, all);
  });
  RotatedModel cut(whole, first_columns(axes, kept));
  StreamRefit(thinning, cut).run();
  thinning.owned = cut.take();
  thinning.model = thinning.owned.get();
}

}  // namespace

StructureKind dim_structure() {
  return {.name = "dim",
          .what = "numbers of the residual stream",
          .count = count_dim,
          .narrow = nullptr,
          .take = take_dim,
          .columns = nullptr,
          .error = dim_error,
          .rounds = true,
          .bytes = dim_bytes};
}

}  // namespace hone
