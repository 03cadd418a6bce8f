// What is in a model file, as data.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "dataset/tokenizer.h"
#include "model/store.h"

namespace hone {

// One matrix or vector.
struct InspectedParameter {
  std::string name, form, element;
  std::string of_any_expert;  // the name with * for the number of a routed expert; empty: of none
  Shape shape;
  int64_t elements = 0, nonzeros = 0, pruned = 0;
  int64_t nonfinite = 0;           // of the numbers that the file has: NaN or infinite
  int64_t bytes = 0;               // of all its arrays in the file
  int64_t activation_bits = 0;     // as stored with it (activation_bits_attribute); 0: the file says nothing
  std::shared_ptr<Weight> weight;  // null for norms, biases and learned positions,
  Tensor value;                    // whose numbers these are, f32
  double sparsity() const { return part(pruned); }
  double zero_fraction() const { return part(elements - nonzeros); }

 private:
  double part(int64_t n) const { return elements ? static_cast<double>(n) / static_cast<double>(elements) : 0; }
};

// A whole file, read and verified. Matrices are not in memory: each is read again where it is used, and may be let go
// of afterwards.
struct InspectedModel {
  std::string path;
  int64_t file_bytes = 0;
  bool checkpoint = false;  // of a run: it has the optimizer's state as well
  nlohmann::json run;       // what the checkpoint says of its run: without its arrays
  int64_t run_bytes = 0;    // of its arrays
  nlohmann::json config, lineage;
  std::shared_ptr<const Tokenizer> tokenizer;
  nlohmann::json tokenizer_json;
  std::vector<InspectedParameter> parameters;  // in the order of the forward pass
  ModelSize size;
  int64_t parameter_bytes = 0;  // in the file
  int64_t nonfinite = 0;        // of all parameters
};

// Throws Error(input) as load_model() does.
InspectedModel inspect_model(const std::string& path);

// "train 0.1.0: --data x.txt --steps 10", on one line.
std::string stage_text(const nlohmann::json& stage);

nlohmann::ordered_json to_json(const InspectedModel& model);
std::string to_table(const InspectedModel& model, bool markdown);
std::string to_csv(const InspectedModel& model);  // the parameters

}  // namespace hone
