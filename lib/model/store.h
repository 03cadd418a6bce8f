// Models in files: the transformer, its tokenizer and its history together.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "io/model_file.h"
#include "model/transformer.h"

namespace hone {

struct Model {
  std::unique_ptr<Transformer> transformer;
  nlohmann::json tokenizer;                          // dataset/tokenizer.h reads it
  nlohmann::json lineage = nlohmann::json::array();  // io/lineage.h
  std::string path;                                  // where it was read from, for messages
};

// Throws Error(input) naming the file and the parameter that is missing, of the wrong shape or damaged. Weights stay
// mapped: a packed model starts without a copy, and with ReadOptions::defer without being read; damage is then found at
// a weight's first use. With `file`, the rest of the file (a checkpoint's run state) is left there.
Model load_model(const std::string& path, const ReadOptions& options = {}, ModelFile* file = nullptr);
Model model_of(ModelFile file, const std::string& path);

ModelFile file_of(Model& model);  // shares the storage of the weights
// Of finished work: where `path` is taken by now, the model is saved beside it, and WrittenFile::path says where.
WrittenFile save_model(const std::string& path, Model& model, bool force);

// What reports say of a model.
struct ModelSize {
  int64_t parameters = 0;  // logical elements
  int64_t nonzero_parameters = 0;
  int64_t active_parameters = 0;  // that one token's forward uses: of tables that are only looked up in, one row
  int64_t prunable = 0, prunable_zeros = 0;  // elements of linear layers' weights, and zeros among them
  int64_t weight_bytes = 0;                  // as stored for execution: what is read when every weight is used once
  double sparsity() const { return prunable ? static_cast<double>(prunable_zeros) / static_cast<double>(prunable) : 0; }
};
ModelSize size_of(Transformer& model);

}  // namespace hone
