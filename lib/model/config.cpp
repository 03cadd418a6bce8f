#include "model/config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/rows.h"
#include "base/spelling.h"
#include "nn/attention/score.h"
#include "nn/encoders/encoder.h"
#include "nn/mixer.h"

namespace hone {
namespace {

using nlohmann::json;

constexpr std::array scaling_names = {"none", "linear", "llama3"};
constexpr std::array router_names = {"softmax", "sigmoid"};
constexpr std::array media_attention_names = {"causal", "both"};
constexpr std::array modality_experts_names = {"none", "ffn", "all"};

// Reads members of an object and says what is wrong with them in the terms of the file.
class Members {
 public:
  Members(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) throw input_error("{}: the configuration is not an object", where_);
  }

  bool has(const char* name) const { return object_.contains(name); }

  const json& member(const char* name) const {
    const auto found = object_.find(name);
    if (found == object_.end()) throw input_error("{}: the configuration has no '{}'", where_, name);
    return *found;
  }

  int64_t integer(const char* name, int64_t least, int64_t most) const {
    const json& value = member(name);
    if (!value.is_number_integer()) throw input_error("{}: '{}' in the configuration is not an integer", where_, name);
    const int64_t n = value.get<int64_t>();
    if (n < least || n > most)
      throw input_error("{}: '{}' in the configuration is {}, outside [{}, {}]", where_, name, n, least, most);
    return n;
  }

  double number(const char* name) const {
    const json& value = member(name);
    if (!value.is_number()) throw input_error("{}: '{}' in the configuration is not a number", where_, name);
    return value.get<double>();
  }

  bool boolean(const char* name) const {
    const json& value = member(name);
    if (!value.is_boolean()) throw input_error("{}: '{}' in the configuration is not true or false", where_, name);
    return value.get<bool>();
  }

  std::string text(const char* name) const {
    const json& value = member(name);
    if (!value.is_string()) throw input_error("{}: '{}' in the configuration is not a string", where_, name);
    return value.get<std::string>();
  }

  std::vector<std::string> names(const char* name) const {
    const json& list = member(name);
    std::vector<std::string> result;
    for (const json& value : list)
      if (value.is_string() && list.is_array()) result.push_back(value.get<std::string>());
    if (!list.is_array() || list.size() != result.size())
      throw input_error("{}: '{}' in the configuration is not a list of names", where_, name);
    return result;
  }

  template <class Enum, size_t n>
  Enum choice(const char* name, const std::array<const char*, n>& names) const {
    const std::string value = text(name);
    for (size_t i = 0; i < n; ++i)
      if (value == names[i]) return static_cast<Enum>(i);
    throw input_error("{}: '{}' in the configuration is '{}'; known: {}", where_, name, value, fmt::join(names, ", "));
  }

  // A place in a table of rows with names.
  template <class Enum, class Rows>
  Enum row(const char* name, const Rows& rows) const {
    const std::string value = text(name);
    if (const std::optional<Enum> found = find_row<Enum>(rows, value)) return *found;
    throw input_error("{}: '{}' in the configuration is '{}'; known: {}", where_, name, value,
                      fmt::join(names_of_rows(rows), ", "));
  }

 private:
  const json& object_;
  std::string where_;
};

enum class MediaAttention { causal, both };

constexpr int64_t most = int64_t{1} << 31;

Config nano() {
  Config c;
  c.layers.assign(6, {6, 6, 1024, "full"});
  return c;
}

// GPT-2's sizes and parts (Radford et al. 2019).
Config gpt2() {
  Config c;
  c.vocabulary = c.padded_vocabulary = 50257;
  c.context = 1024;
  c.block.dim = 768;
  c.block.norm = norm_named("layer_norm");
  c.block.activation = activation_named("gelu");
  c.block.positions = positions_named("learned");
  c.block.biases = true;
  c.layers.assign(12, {12, 12, 3072, "full"});
  return c;
}

}  // namespace

namespace {

// Through its shortest decimal form, so that 1e-05 does not become 9.9999997e-06.
double shortest(float x) {
  return std::stod(fmt::format("{}", x));
}

}  // namespace

json to_json(const Config& c) {
  json layers = json::array();
  for (const LayerBlueprint& l : c.layers) {
    json layer = {{"heads", l.heads}, {"kv_heads", l.kv_heads}, {"ffn", l.ffn}, {"attention", l.attention}};
    if (l.experts > 0) {
      layer["experts"] = l.experts;
      layer["top_k"] = l.top_k;
      layer["shared_experts"] = l.shared_experts;
      layer["router"] = router_names[static_cast<size_t>(l.router)];
      if (!l.normalized_gates) layer["normalized_gates"] = false;
      if (l.shared_gate) layer["shared_gate"] = true;
    }
    if (l.depth_fraction > 0) layer["depth_fraction"] = l.depth_fraction;
    if (l.exit) layer["exit"] = true;
    if (l.qk_norm) layer["qk_norm"] = true;
    if (l.qk_norm_whole) layer["qk_norm_whole"] = true;
    if (!l.score.empty()) layer["score"] = l.score;
    if (!l.modalities.empty()) {
      layer["modality_experts"] = modality_experts_names[static_cast<size_t>(l.modality_experts)];
      layer["modalities"] = l.modalities;
    }
    layers.push_back(std::move(layer));
  }
  const BlockBlueprint& b = c.block;
  json object = {{"vocabulary", c.vocabulary},
                 {"padded_vocabulary", c.padded_vocabulary},
                 {"context", c.context},
                 {"tied", c.tied},
                 {"dim", b.dim},
                 {"head_dim", b.head_dim},
                 {"norm", info_of(b.norm).name},
                 {"norm_epsilon", shortest(b.norm_epsilon)},
                 {"activation", info_of(b.activation).name},
                 {"positions", info_of(b.positions).name},
                 {"rope_theta", b.rope_theta},
                 {"biases", b.biases},
                 {"layers", layers}};
  // What only few models have is only in their files.
  if (c.logit_softcap > 0) object["logit_softcap"] = shortest(c.logit_softcap);
  if (b.qkv_biases) object["qkv_biases"] = true;
  if (b.rotary_dim > 0) object["rotary_dim"] = b.rotary_dim;
  if (b.parallel) object["parallel"] = true;
  if (const RopeScaling& s = b.rope_scaling; s.kind != RopeScaling::Kind::none) {
    json scaling = {{"kind", scaling_names[static_cast<size_t>(s.kind)]}, {"factor", s.factor}};
    if (s.kind == RopeScaling::Kind::llama3) scaling.update({{"low", s.low}, {"high", s.high}, {"context", s.context}});
    object["rope_scaling"] = scaling;
  }
  if (!c.encoders.empty()) {
    object["encoders"] = c.encoders;
    object["media_attention"] = media_attention_names[c.media_both_ways];
    if (!c.aligned.empty()) object["aligned"] = c.aligned;
  }
  return object;
}

namespace {

// Members that files of models without them leave out.
void read_rare(const Members& r, const std::string& where, Config& c) {
  if (r.has("logit_softcap")) c.logit_softcap = static_cast<float>(r.number("logit_softcap"));
  BlockBlueprint& b = c.block;
  if (r.has("qkv_biases")) b.qkv_biases = r.boolean("qkv_biases");
  if (r.has("rotary_dim")) b.rotary_dim = r.integer("rotary_dim", 2, b.head_dim);
  if (r.has("parallel")) b.parallel = r.boolean("parallel");
  if (!r.has("rope_scaling")) return;
  const Members scaling(r.member("rope_scaling"), where);
  RopeScaling& s = b.rope_scaling;
  s.kind = scaling.choice<RopeScaling::Kind>("kind", scaling_names);
  s.factor = scaling.number("factor");
  if (s.kind != RopeScaling::Kind::llama3) return;
  s.low = scaling.number("low");
  s.high = scaling.number("high");
  s.context = scaling.integer("context", 1, most);
}

}  // namespace

Config config_from_json(const json& object, const std::string& where) {
  const Members r(object, where);
  Config c;
  c.vocabulary = r.integer("vocabulary", 1, most);
  c.padded_vocabulary = r.integer("padded_vocabulary", c.vocabulary, most);
  c.context = r.integer("context", 1, most);
  c.tied = r.boolean("tied");
  c.block.dim = r.integer("dim", 1, 1 << 24);
  c.block.head_dim = r.integer("head_dim", 1, 1 << 16);
  c.block.norm = r.row<NormKind>("norm", norm_kinds);
  c.block.norm_epsilon = static_cast<float>(r.number("norm_epsilon"));
  c.block.activation = r.row<ActivationKind>("activation", activation_kinds);
  c.block.positions = r.row<PositionKind>("positions", position_kinds);
  c.block.rope_theta = r.number("rope_theta");
  c.block.biases = r.boolean("biases");
  read_rare(r, where, c);
  const json& layers = r.member("layers");
  if (!layers.is_array() || layers.empty() || layers.size() > 4096)
    throw input_error("{}: 'layers' in the configuration is not a list of 1 to 4096 layers", where);
  for (const json& layer : layers) {
    const Members l(layer, where);
    c.layers.push_back({l.integer("heads", 0, 1 << 16), l.integer("kv_heads", 0, 1 << 16), l.integer("ffn", 0, 1 << 24),
                        l.text("attention")});
    if (l.has("depth_fraction")) c.layers.back().depth_fraction = l.number("depth_fraction");
    if (l.has("exit")) c.layers.back().exit = l.boolean("exit");
    if (l.has("qk_norm")) c.layers.back().qk_norm = l.boolean("qk_norm");
    if (l.has("qk_norm_whole")) c.layers.back().qk_norm_whole = l.boolean("qk_norm_whole");
    if (l.has("score")) c.layers.back().score = l.text("score");
    if (l.has("modality_experts")) {
      c.layers.back().modality_experts = l.choice<ModalityExperts>("modality_experts", modality_experts_names);
      c.layers.back().modalities = l.names("modalities");
    }
    if (!l.has("experts")) continue;  // dense
    LayerBlueprint& mixture = c.layers.back();
    mixture.experts = l.integer("experts", 1, 1 << 16);
    mixture.top_k = l.integer("top_k", 1, mixture.experts);
    mixture.shared_experts = l.integer("shared_experts", 0, 1 << 16);
    mixture.router = l.choice<RouterKind>("router", router_names);
    if (l.has("normalized_gates")) mixture.normalized_gates = l.boolean("normalized_gates");
    if (l.has("shared_gate")) mixture.shared_gate = l.boolean("shared_gate");
  }
  if (r.has("encoders")) {
    c.encoders = r.names("encoders");
    if (r.has("aligned")) c.aligned = r.names("aligned");
    c.media_both_ways = r.choice<MediaAttention>("media_attention", media_attention_names) == MediaAttention::both;
  }
  try {
    check(c);
  } catch (const Error& error) {
    throw input_error("{}: impossible configuration: {}", where, error.what());
  }
  return c;
}

namespace {

void check_aligned(const std::vector<std::string>& aligned, const std::vector<const Medium*>& media) {
  if (aligned.empty()) return;
  if (aligned.size() != 2 || aligned[0] == aligned[1])
    throw usage_error("representations of two different media can be aligned, not of '{}'", fmt::join(aligned, ","));
  for (const std::string& name : aligned)
    if (std::ranges::none_of(media, [&](const Medium* medium) { return medium->name == name; }))
      throw usage_error("representations of '{}' cannot be aligned: the model has no encoder for that", name);
}

void check_modalities(const LayerBlueprint& layer, size_t i, const std::vector<const Medium*>& media) {
  if (layer.modality_experts == ModalityExperts::none && layer.modalities.empty()) return;
  std::vector<std::string> names;
  for (const Medium* medium : media) names.emplace_back(medium->name);
  if (names.empty())
    throw usage_error("layer {} has weights for kinds of parts, and the model has no encoder that makes any", i);
  if (layer.modality_experts == ModalityExperts::none || layer.modalities != names)
    throw usage_error("layer {} has weights of their own for '{}', and the model's encoders are for '{}'", i,
                      fmt::join(layer.modalities, ","), fmt::join(names, ","));
  if (layer.experts > 0) throw usage_error("layer {}: a router chooses experts, or the kind of part does; not both", i);
}

void check_encoders(const Config& c) {
  std::vector<const Medium*> media;
  for (const std::string& name : c.encoders) {
    const Medium* const medium = &encoder_kind(name)->medium();
    if (std::find(media.begin(), media.end(), medium) != media.end())
      throw usage_error("a model has one encoder for each kind of media, and '{}' is a second for {}", name,
                        medium->name);
    media.push_back(medium);
  }
  check_aligned(c.aligned, media);
  for (size_t i = 0; i < c.layers.size(); ++i) check_modalities(c.layers[i], i, media);
  if (!c.media_both_ways) return;
  if (c.encoders.empty())
    throw usage_error("attention both ways is for {}, and no encoder takes any", each_of(media_words(&Medium::plural)));
  const ShapesOnly shapes;
  for (const LayerBlueprint& layer : c.layers)
    if (layer.mixes() && !Mixer::make(c.block, layer)->sees_together())
      throw usage_error("attention '{}' looks back alone, also within {}: choose causal there", layer.attention,
                        with_article(either_of(media_words(&Medium::noun))));
}

}  // namespace

namespace {

// 0: none.
void check_softcap(const char* name, float cap) {
  if (!(cap == 0 || (cap >= least_softcap && cap <= most_softcap)))
    throw usage_error("{} must be between {} and {}, not {}", name, least_softcap, most_softcap, cap);
}

}  // namespace

void check(const Config& c) {
  const auto positive = [](const char* name, int64_t value) {
    if (value < 1) throw usage_error("{} must be at least 1, not {}", name, value);
  };
  positive("the vocabulary", c.vocabulary);
  positive("the context", c.context);
  positive("dim", c.block.dim);
  positive("head_dim", c.block.head_dim);
  positive("the number of layers", static_cast<int64_t>(c.layers.size()));
  if (c.padded_vocabulary < c.vocabulary)
    throw usage_error("the padded vocabulary of {} is smaller than the tokenizer's {}", c.padded_vocabulary,
                      c.vocabulary);
  if (info_of(c.block.positions).turns && c.block.head_dim % 2)
    throw usage_error("{} need an even head_dim, not {}", info_of(c.block.positions).what, c.block.head_dim);
  if (c.block.rotary_dim % 2 || c.block.rotary_dim < 0 || c.block.rotary_dim > c.block.head_dim)
    throw usage_error("rotary_dim must be even and at most head_dim, not {}", c.block.rotary_dim);
  if (const RopeScaling& s = c.block.rope_scaling; !(s.factor >= 1) || !(s.low > 0) || !(s.high > s.low))
    throw usage_error("rope_scaling needs a factor of at least 1 and 0 < low < high, not {}, {} and {}", s.factor,
                      s.low, s.high);
  check_softcap("logit_softcap", c.logit_softcap);
  if (!(c.block.norm_epsilon > 0)) throw usage_error("norm_epsilon must be above 0, not {}", c.block.norm_epsilon);
  if (!(c.block.rope_theta > 1)) throw usage_error("rope_theta must be above 1, not {}", c.block.rope_theta);
  double elements = static_cast<double>(c.padded_vocabulary) * static_cast<double>(c.block.dim) * (c.tied ? 1 : 2);
  for (size_t i = 0; i < c.layers.size(); ++i) {
    const LayerBlueprint& l = c.layers[i];
    if (l.mixes() || l.kv_heads != 0) {
      positive("heads", l.heads);
      positive("kv_heads", l.kv_heads);
    }
    if (l.ffn != 0) positive("ffn", l.ffn);
    if (!l.mixes() && !l.feeds()) throw usage_error("layer {} has neither attention nor a feed-forward", i);
    if (!l.feeds() && l.experts > 0) throw usage_error("layer {}: experts need a width", i);
    try {
      check_mixer(l.attention, c.context);
      score_rule(l.score);
    } catch (const Error& error) {
      throw usage_error("layer {}: {}", i, error.what());
    }
    if (l.mixes() && !attends(l.attention) && (l.kv_heads != l.heads || l.qk_norm || !l.score.empty()))
      throw usage_error("layer {}: '{}' has no keys, so that kv_heads are its heads, and qk_norm and score nothing", i,
                        l.attention);
    if (l.qk_norm_whole && !l.qk_norm) throw usage_error("layer {}: qk_norm_whole needs qk_norm", i);
    if (l.mixes() && l.heads % l.kv_heads)
      throw usage_error("layer {}: {} heads are not a multiple of {} key/value heads", i, l.heads, l.kv_heads);
    if (l.experts < 0 || l.shared_experts < 0) throw usage_error("layer {}: a number of experts cannot be negative", i);
    if (l.shared_gate && (l.experts == 0 || l.shared_experts == 0))
      throw usage_error("layer {}: a gate of shared experts needs shared experts", i);
    if (l.experts > 0 && (l.top_k < 1 || l.top_k > l.experts))
      throw usage_error("layer {}: top-k must be between 1 and the {} experts, not {}", i, l.experts, l.top_k);
    if (!(l.depth_fraction >= 0 && l.depth_fraction < 1))
      throw usage_error("layer {}: {} of the tokens cannot go through it; a number above 0 and below 1 is needed", i,
                        l.depth_fraction);
    if (l.depth_fraction > 0 && c.media_both_ways)
      throw usage_error(
          "layer {} lets only some tokens through, and rows of {} that see each other whole must all be there: choose "
          "causal attention for these, or leave the router out",
          i, with_article(either_of(media_words(&Medium::noun))));
    const double feed_forwards = l.experts > 0 ? static_cast<double>(l.experts + l.shared_experts)
                                               : static_cast<double>(1 + l.modalities.size());
    elements += static_cast<double>(c.block.dim) * (static_cast<double>(2 * (l.heads + l.kv_heads) * c.block.head_dim) +
                                                    feed_forwards * 3.0 * static_cast<double>(l.ffn));
  }
  if (c.layers.back().exit)
    throw usage_error("an exit behind all of {}: what is read there is what the model gives",
                      counted(c.layers.size(), "layer"));
  check_encoders(c);
  if (elements > 1e12) throw usage_error("a model of {:.3g} parameters does not fit any memory", elements);
}

int64_t max_positions(const Config& config) {
  return info_of(config.block.positions).learned ? config.context : std::numeric_limits<int64_t>::max();
}

bool has_weights_by_kind(const Config& config) {
  return std::ranges::any_of(config.layers, [](const LayerBlueprint& layer) { return !layer.modalities.empty(); });
}

int64_t format_version_of(const Config& config) {
  const auto needs_5 = [](const LayerBlueprint& layer) { return layer.shared_gate; };
  const auto needs_4 = [](const LayerBlueprint& layer) { return layer.qk_norm_whole || !layer.normalized_gates; };
  const auto needs_3 = [](const LayerBlueprint& layer) { return layer.qk_norm || !layer.score.empty(); };
  if (std::ranges::any_of(config.layers, needs_5)) return 5;
  if (std::ranges::any_of(config.layers, needs_4)) return 4;
  return config.logit_softcap > 0 || std::ranges::any_of(config.layers, needs_3) ? 3 : 2;
}

void set_attention(Config& config, const std::string& kinds) {
  const std::vector<std::string> by_layer = mixer_by_layer(kinds, config.layers.size());
  for (size_t i = 0; i < by_layer.size(); ++i) {
    LayerBlueprint& layer = config.layers[i];
    layer.attention = by_layer[i];
    if (attends(layer.attention)) continue;
    layer.kv_heads = layer.heads;
    layer.qk_norm = layer.qk_norm_whole = false;
    layer.score.clear();
  }
}

std::string attention_of(const Config& config) {
  std::vector<std::string> by_layer;
  for (const LayerBlueprint& layer : config.layers) by_layer.push_back(layer.attention);
  return mixer_list(by_layer);
}

void set_modality_experts(Config& config, ModalityExperts which) {
  if (config.encoders.empty()) throw usage_error("weights for kinds of parts need a model with encoders");
  for (LayerBlueprint& layer : config.layers) {
    layer.modality_experts = which;
    layer.modalities.clear();
    for (const std::string& encoder : config.encoders)
      if (which != ModalityExperts::none) layer.modalities.emplace_back(encoder_kind(encoder)->medium().name);
  }
}

const std::vector<Preset>& presets() {
  static const std::vector<Preset> table = {
      {"nano", "6 layers, dim 384, 6 heads, context 256: 10.7M parameters with a byte vocabulary", nano()},
      {"gpt2", "12 layers, dim 768, 12 heads, context 1024, GPT-2's parts: 124M parameters at 50257 tokens", gpt2()},
  };
  return table;
}

const Config& preset(const std::string& name) {
  return row_called(presets(), name, "preset").config;
}

}  // namespace hone
