// Models in files: the transformer, its tokenizer and its history together.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "io/model_file.h"
#include "model/whole_arrays.h"

namespace hone {

struct Model {
  std::unique_ptr<Transformer> transformer;
  nlohmann::json tokenizer;                          // dataset/tokenizer.h reads it
  nlohmann::json lineage = nlohmann::json::array();  // io/lineage.h
  nlohmann::json origin;                             // ModelFile::origin
  std::string path;                                  // where it was read from, for messages
  std::map<std::string, Notes> notes;                // what others wrote beside the root and the parameters
  kernels::ActivationRounding rounding = {};         // what set_rounding() was given
};

// How all products of the model's weights of integers round activations from now on; without bits each as it is stored
// with the weight (Weight::activation_bits). Nothing else may use the model meanwhile.
void set_rounding(Model& model, const kernels::ActivationRounding& rounding);

// Throws Error(input) naming the file and the parameter that is missing, of the wrong shape or damaged. Weights stay
// mapped: a packed model starts without a copy, and with ReadOptions::defer without being read; damage is then found at
// a weight's first use, and so is a number that is not finite. With `file`, the rest of the file (a checkpoint's run
// state) is left there.
//
// With several `ranks`, on every one: each takes its part (Transformer), and reads of what they divide no more than
// that and its share of comparing the arrays with their checksums; of experts that others have nothing. What one of
// them throws, all throw.
Model load_model(const std::string& path, const ReadOptions& options = {}, ModelFile* file = nullptr,
                 const ModelRanks& ranks = {});
Model model_of(ModelFile file, const std::string& path);

// Throws Error(input) naming file and parameter where a number is NaN or infinite: nothing can be made of such a model.
void require_finite(const Model& model);
// Of a model that was loaded with ReadOptions::defer: reads all of it now, weight by weight, so that damage is found
// before anything is made of it. Throws what a first use would. The weights leave memory again.
void read_through(const Model& model);

// Shares the storage of the weights. Of a model in parts, on every rank that has one: values of what is divided, and of
// experts that others have, are promised, and come from kept_arrays().
ModelFile file_of(const Model& model);
KeptArrays kept_arrays(const Transformer& model);  // of what differs from rank to rank, by parameter
// On every rank that has a part. Of finished work: where `path` is taken by now, the model is saved beside it, and
// WrittenFile::path says where.
WrittenFile save_model(const std::string& path, const Model& model, bool force);

// What reports say of a model; of one in parts, on every rank that has one, of the whole.
struct ModelSize {
  int64_t parameters = 0;          // logical elements
  int64_t nonzero_parameters = 0;  // elements whose value is not zero
  // That one token's forward uses: of tables that are only looked up in one row, of layers that only some tokens go
  // through that part.
  int64_t active_parameters = 0;
  int64_t prunable = 0;        // elements of linear layers' weights;
  int64_t pruned = 0;          // those that masks leave out,
  int64_t prunable_zeros = 0;  // and those that are 0, by mask, by rounding or by chance
  int64_t weight_bytes = 0;    // as stored for execution: what is read when every weight is used once

  double sparsity() const { return part(pruned); }
  double zero_fraction() const { return part(prunable_zeros); }

 private:
  double part(int64_t n) const { return prunable ? static_cast<double>(n) / static_cast<double>(prunable) : 0; }
};
ModelSize size_of(const Transformer& model);

}  // namespace hone
