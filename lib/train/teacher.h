// Who a model learns from beside the text: another model, or what one said that is kept in a file.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "model/transformer.h"
#include "ops/divergence.h"

namespace hone {

struct TeacherBatch {
  std::span<const int32_t> inputs;  // [rows]: windows of equal length
  std::span<const int64_t> starts;  // where in the training text each of them begins
  DType type = DType::f32;          // of activations and products
};

struct TeacherAnswer {
  std::unique_ptr<ops::Predictions> predictions;
  // Behind each layer: [rows, dim] of the type, or nothing where a layer lacks both halves.
  std::vector<Tensor> streams;
};

class Teacher {
 public:
  virtual ~Teacher() = default;
  // No tape records. `streams`: those are wanted too.
  virtual TeacherAnswer answer(const TeacherBatch& batch, bool streams) const = 0;
};

// A model in whatever form its weights are stored; in parts, where the ranks of the model that learns have it so.
std::shared_ptr<const Teacher> model_teacher(std::shared_ptr<const Transformer> model);

// What a model teacher takes while batches of this shape are trained on: its weights, copies of them in bf16, one
// layer's rows, its logits of a chunk, and the streams where they are wanted.
struct TrainingShape;
double teacher_bytes(const Transformer& teacher, const TrainingShape& shape, bool streams);

}  // namespace hone
