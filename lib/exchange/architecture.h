// Architectures of published models: how their configuration and their tensors say what a blueprint says.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "exchange/obstacles.h"
#include "exchange/settings.h"
#include "model/transformer.h"

namespace hone {

// A tensor, or some rows of it, that is a parameter or the next rows of one.
struct Part {
  std::string tensor;              // its whole name
  Shape shape;                     // as it lies in the file
  bool transposed = false;         // [inputs, outputs] where Hone's matrices are [outputs, inputs]
  std::vector<int64_t> rows = {};  // row i of the parameter's part is this row of the tensor; empty: in order
  // The matrices of `experts` may lie behind one another in one tensor, [experts, shape…]: it is the one of `expert`.
  int64_t experts = 0, expert = 0;

  Shape whole() const {  // of the tensor
    Shape all = shape;
    if (experts > 0) all.push_front(experts);
    return all;
  }
};

// What a parameter is made of, its first rows first. With `zero` the file has nothing of it: it is 0, and stays it.
struct Parts {
  std::vector<Part> parts;
  bool zero = false;
};

struct GgufForm;

// A row of architecture.cpp, of a file in architectures/.
struct Architecture {
  const char* name;    // `model_type` of config.json
  const char* prefix;  // of all tensors but the head, which files of the bare model leave out: "model."
  // A blueprint. Throws Error(input) saying what Hone lacks.
  Config (*read)(const Settings& settings);
  // config.json of a blueprint. Throws Error(usage) saying all that the architecture cannot express.
  nlohmann::ordered_json (*write)(const Config& config);
  Parts (*parts)(const Config& config, const ParameterInfo& info);
  // Tensors that frameworks save and compute anew: passed over.
  bool (*buffer)(std::string_view tensor);
  const GgufForm* gguf = nullptr;  // of its GGUF files (gguf_form.h); null: they are not read
};

const std::vector<Architecture>& architectures();
std::string architecture_names();  // "llama, mistral, …"
// By `model_type`. Throws Error(input) listing the names.
const Architecture& architecture_of(const Settings& settings);
const Architecture* find_architecture(std::string_view name);  // null: none

// ---- what files of architectures/ share ----

// `count` layers alike, as the member `name` of a file says. Throws Error(input) for less than 1 or more than 4096.
std::vector<LayerBlueprint> layers_alike(const LayerBlueprint& layer, int64_t count, const std::string& where,
                                         const std::string& name);
// Sets heads, kv_heads and head_dim of a model whose heads divide dim. Throws Error(input) where they do not.
void set_dividing_heads(const Settings& settings, const char* dim_name, const char* heads_name, BlockBlueprint& block,
                        LayerBlueprint& layer);

// Throws Error(usage) with `what` unless `good`.
void express(bool good, std::string_view what);

// What the files of an architecture can say beside sizes, an activation and whether the head is tied. What is not named
// here, soft caps and kinds of scores say, none of them can. A member of the first kind is what its models are; of the
// second, what they may be.
struct Expressible {
  NormKind norm = norm_named("rms_norm");
  std::vector<ActivationKind> activations = {activation_named("swiglu")};
  PositionKind positions = positions_named("rotary");
  bool biases = false;
  bool qkv_biases = false;  // where the others have none
  bool qk_norm = false;
  bool qk_norm_whole = false;  // where they have qk_norm
  bool experts = false;

  bool any_heads = false;  // fewer of keys and values, or of another width than dim / heads
  bool any_attention = false;
  bool parallel = false;
  bool turns_in_part = false;
  bool rope_scaling = false;
  bool any_gates = false;  // of several experts, that do not sum to 1
};
// Adds what of a model is more than that, whose layers must be alike.
void require_expressible(const Config& config, const Expressible& can, Obstacles& obstacles);
// Throws Error(usage) saying all of it. The layer that all are.
const LayerBlueprint& require_expressible(const Config& config, const Expressible& can);

// Adds of a layer that is a mixture a sigmoid router, and shared experts: or, with `gated`, that there are none with a
// gate.
void require_usual_mixture(const LayerBlueprint& layer, Obstacles& obstacles, bool gated = false);

// Rows of heads whose pairs are neighbours (2i, 2i + 1), in Hone's order, where i and i + head_dim / 2 are a pair.
std::vector<int64_t> rows_of_neighbours(int64_t heads, int64_t head_dim);

}  // namespace hone
