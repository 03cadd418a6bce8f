#include "train/teacher.h"

#include <algorithm>

#include "measure/activations.h"
#include "model/size.h"
#include "model/store.h"
#include "nn/mixer.h"

namespace hone {
namespace {

class KeptStreams : public StreamObserver {
 public:
  KeptStreams(size_t layers, DType type) : streams(layers), type_(type) {}

  void behind(int64_t layer, Stream& stream) override {
    const Var sum = stream.branch ? ops::sum(stream.residual, stream.branch) : stream.residual;
    streams[static_cast<size_t>(layer)] =
        type_ == DType::f32 && !stream.branch ? sum.value().clone() : sum.value().to(type_);
  }

  std::vector<Tensor> streams;

 private:
  DType type_;
};

class ModelTeacher : public Teacher {
 public:
  explicit ModelTeacher(std::shared_ptr<const Transformer> model) : model_(std::move(model)) {}

  TeacherAnswer answer(const TeacherBatch& batch, bool streams) const override {
    const auto windows = static_cast<int64_t>(batch.starts.size()), rows = static_cast<int64_t>(batch.inputs.size());
    Call call = model_->call(Batch::whole(windows, rows / windows), batch.type);
    call.own_rows = true;  // as those of the step
    KeptStreams kept(static_cast<size_t>(model_->layers()), batch.type);
    if (streams) call.streams.push_back(&kept);
    const Tensor hidden = model_->hidden(batch.inputs, call).value();
    return {ops::predictions_of(hidden, model_->head()), streams ? std::move(kept.streams) : std::vector<Tensor>()};
  }

 private:
  std::shared_ptr<const Transformer> model_;
};

}  // namespace

std::shared_ptr<const Teacher> model_teacher(std::shared_ptr<const Transformer> model) {
  return std::make_shared<ModelTeacher>(std::move(model));
}

double teacher_bytes(const Transformer& teacher, const TrainingShape& shape, bool streams) {
  const Config config = teacher.model_ranks().shape_of_one(teacher.config());
  const auto number = [](int64_t n) { return static_cast<double>(n); };
  const double unit = number(static_cast<int64_t>(size_of(shape.type))), dim = number(config.block.dim);
  const double rows = number(shape.batch) * number(shape.context);
  double weights = 0;
  struct Weights : Reader {
    explicit Weights(bool copies) : copies_(copies) {}
    void weight(const ParameterInfo& info, const Weight& weight) override {
      if (!info.part.here()) return;
      bytes += static_cast<double>(weight.stored_bytes());
      if (copies_ && weight.element() == "f32") bytes += 2.0 * static_cast<double>(weight.rows() * weight.cols());
    }
    void parameter(const ParameterInfo& info, const Parameter& parameter) override {
      if (info.part.here()) bytes += static_cast<double>(parameter.value.bytes());
    }
    double bytes = 0;
    bool copies_;
  } seen(shape.type == DType::bf16);
  teacher.visit(seen);
  weights = seen.bytes;
  double widest = 0;
  const ShapesOnly shapes;
  for (const LayerBlueprint& layer : config.layers) {
    const double wide = info_of(config.block.activation).gated ? 3 : 2;
    const double experts = layer.experts > 0 ? number(layer.top_k + layer.shared_experts) : 1;
    double mixing = 0;
    if (layer.mixes())
      for (const int64_t width : Mixer::make(config.block, layer)->training_arrays().kept)
        mixing += unit * number(width);
    widest = std::max({widest, mixing, unit * wide * number(layer.ffn) * experts});
  }
  const double chunk = std::min(
      rows, number(ops::head_chunk_rows(static_cast<int64_t>(std::min(rows, 1e15)), config.padded_vocabulary)));
  const double layers = streams ? number(teacher.layers()) : 0;
  return weights + rows * (8 * dim + 2 * unit * dim + widest + layers * unit * dim) +
         chunk * number(config.padded_vocabulary) * unit;
}

}  // namespace hone
