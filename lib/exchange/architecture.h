// Architectures of published models: how their configuration and their tensors say what a blueprint says.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "exchange/settings.h"
#include "model/transformer.h"

namespace hone {

// A tensor, or some rows of it, that is a parameter or the next rows of one.
struct Part {
  std::string tensor;              // its whole name
  Shape shape;                     // as it lies in the file
  bool transposed = false;         // [inputs, outputs] where Hone's matrices are [outputs, inputs]
  std::vector<int64_t> rows = {};  // row i of the parameter's part is this row of the tensor; empty: in order
};

// What a parameter is made of, its first rows first. With `zero` the file has nothing of it: it is 0, and stays it.
struct Parts {
  std::vector<Part> parts;
  bool zero = false;
};

struct Architecture {
  const char* name;    // `model_type` of config.json
  const char* prefix;  // of all tensors but the head, which files of the bare model leave out: "model."
  // A blueprint. Throws Error(input) saying what Hone lacks.
  Config (*read)(const Settings& settings);
  // config.json of a blueprint. Throws Error(usage) saying what the architecture cannot express.
  nlohmann::ordered_json (*write)(const Config& config);
  Parts (*parts)(const Config& config, const ParameterInfo& info);
  // Tensors that frameworks save and compute anew: passed over.
  bool (*buffer)(std::string_view tensor);
};

const std::vector<Architecture>& architectures();
std::string architecture_names();  // "llama, mistral, …"
// By `model_type`. Throws Error(input) listing the names.
const Architecture& architecture_of(const Settings& settings);
const Architecture* find_architecture(std::string_view name);  // null: none

// ---- what files of architectures/ share ----

// "blocks.3.feed_forward.gate_up.weight" -> "feed_forward.gate_up.weight"; whole names of what is in no block.
std::string within_block(const ParameterInfo& info);
// Throws Error(usage) with `what` unless `good`.
void express(bool good, const char* what);
// That all layers are alike. Throws Error(usage).
const LayerBlueprint& uniform_layer(const Config& config);

// Rows of heads whose pairs are neighbours (2i, 2i + 1), in Hone's order, where i and i + head_dim / 2 are a pair.
std::vector<int64_t> rows_of_neighbours(int64_t heads, int64_t head_dim);

}  // namespace hone
