// The blueprint of a model: everything but its numbers. Stored as JSON in the model file.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "nn/blueprint.h"

namespace hone {

struct Config {
  int64_t vocabulary = 256;         // token ids
  int64_t padded_vocabulary = 256;  // rows of embedding and head; at least `vocabulary`
  int64_t context = 256;            // longest sequence it was made for
  bool tied = true;                 // the head is the embedding
  float logit_softcap = 0;          // of the head, see ops::Head; 0: none
  BlockBlueprint block;
  std::vector<LayerBlueprint> layers;
  // Kinds of nn/encoders/, with all their numbers; at most one for each medium.
  std::vector<std::string> encoders = {};
  bool media_both_ways = false;  // rows of one image or sound see each other whole; otherwise attention is causal there
  // Two media, by name, whose pooled representations were trained to meet (ops/contrastive.h); the scale of their
  // similarities is a parameter then. Empty: none.
  std::vector<std::string> aligned = {};

  bool operator==(const Config&) const = default;
};

nlohmann::json to_json(const Config& config);
// Of a model file of it: the least that tells readers who do not know all of it that they do not.
int64_t format_version_of(const Config& config);
// Throws Error(input) for a missing or impossible value, naming it; `where` names the file.
Config config_from_json(const nlohmann::json& json, const std::string& where);
// Throws Error(usage) for a shape that cannot be: sizes below 1, heads not a multiple of kv_heads, a layer without both
// halves, an odd head_dim with rotary positions, attention that does not fit the context, encoders that are none or two
// of a kind, more elements than memory could hold.
void check(const Config& config);
// The longest sequence that the model has positions for: its context where they are learned, else no limit.
int64_t max_positions(const Config& config);

// Kinds of attention, "a,b" repeating over the layers: see mixer_by_layer() of nn/mixer.h. Where a layer does not
// attend afterwards, what belongs to attention goes: heads of keys, norms of them, scores.
void set_attention(Config& config, const std::string& kinds);  // Error(usage) for kinds that do not exist
std::string attention_of(const Config& config);                // the shortest such list
// Whether rows of some kinds of parts go through weights of their own.
bool has_weights_by_kind(const Config& config);
// Weights of their own for the kinds of parts that the encoders are for, in every layer. Error(usage) without encoders.
void set_modality_experts(Config& config, ModalityExperts which);

struct Preset {
  std::string name, description;
  Config config;
};
const std::vector<Preset>& presets();           // nano, gpt2
const Config& preset(const std::string& name);  // Error(usage) listing the names

}  // namespace hone
