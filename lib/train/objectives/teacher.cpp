#include "train/objectives/teacher.h"

#include "nn/block.h"
#include "train/objectives/settings.h"
#include "train/teacher.h"

namespace hone {
namespace {

constexpr const char *predictions_term = "teacher", *hidden_term = "teacher_hidden";

// Adds the distance from the teacher's stream behind the same layer.
class Matching : public StreamObserver {
 public:
  void expect(std::vector<Tensor> streams, float weight) {
    streams_ = std::move(streams);
    weight_ = weight / static_cast<float>(streams_.size());
  }

  void behind(int64_t layer, Stream& stream) override {
    const Tensor& wanted = streams_[static_cast<size_t>(layer)];
    if (wanted) stream.terms.push_back(ops::match_rows(hidden_term, stream.residual, stream.branch, wanted, weight_));
  }

 private:
  std::vector<Tensor> streams_;
  float weight_ = 0;
};

class TeacherObjective : public Objective {
 public:
  explicit TeacherObjective(const DistillationSettings& settings) : s_(settings) {}

  void prepare(const ObjectiveBatch& batch, Call& call) override {
    TeacherAnswer answer = s_.teacher->answer({batch.inputs, batch.starts, call.type}, s_.hidden_weight > 0);
    predictions_ = std::move(answer.predictions);
    if (s_.hidden_weight <= 0) return;
    matching_.expect(std::move(answer.streams), s_.hidden_weight);
    call.streams.push_back(&matching_);
  }

  std::vector<LossTerm> terms(const ObjectiveInput& in) override {
    const auto predictions = std::move(predictions_);
    if (s_.weight <= 0) return {};
    return {ops::divergence_head(predictions_term, in.hidden, in.model.head(), *predictions, s_.temperature, in.targets,
                                 s_.weight * in.weight)};
  }

 private:
  DistillationSettings s_;
  std::unique_ptr<ops::Predictions> predictions_;
  Matching matching_;
};

}  // namespace

std::unique_ptr<Objective> teacher_objective(const ObjectiveSettings& settings) {
  if (!settings.distillation.teacher) return nullptr;
  return std::make_unique<TeacherObjective>(settings.distillation);
}

}  // namespace hone
