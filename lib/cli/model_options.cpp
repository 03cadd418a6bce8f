#include "cli/model_options.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "base/rows.h"
#include "base/spelling.h"
#include "cli/tool.h"
#include "nn/attention/score.h"
#include "nn/encoders/encoder.h"
#include "nn/mixer.h"

namespace hone::cli {
namespace {

std::string preset_names() {
  std::string text;
  for (const Preset& p : presets()) text += fmt::format("{}{} ({})", text.empty() ? "" : "; ", p.name, p.description);
  return text;
}

}  // namespace

void ModelOptions::add(RunOptions& run) {
  options_ = &run;
  run.group("Model", "Shape of a new model: what the preset does not already say");
  const auto shape = [](Declared option) { return option.shapes(Shapes::model).of_new_model(); };
  std::vector<std::string> names;
  for (const Preset& p : presets()) names.emplace_back(p.name);
  shape(run.text("--preset", preset, preset_names(), names)).shown_default("nano");
  shape(run.count("--layers", layers, "Blocks", size_range));
  shape(run.count("--dim", dim, "Width of the residual stream", size_range));
  shape(run.count("--heads", heads, "Query heads", size_range));
  shape(run.count("--kv-heads", kv_heads,
                  "Key/value heads, shared by groups of query heads (default: as many as heads)", size_range));
  shape(run.count("--head-dim", head_dim, "Width of a head (default: dim / heads)", size_range));
  shape(run.count("--ffn", ffn,
                  "Hidden width of the feed-forward (default: 8/3 dim where the activation has gates, else 4 dim)",
                  size_range));
  run.count("--context", context, "Longest sequence, and the length of training windows", size_range)
      .shapes(Shapes::derived, "context");
  shape(run.count("--vocab", vocabulary,
                  "Rows of embedding and head; at least the tokenizer's ids, the rest is padding", size_range));
  shape(run.text("--norm", norm, rows_in_words(norm_kinds), names_of_rows(norm_kinds)));
  shape(run.number("--norm-epsilon", norm_epsilon, "Added to the variance in norms", {.least = 0, .most = 1}));
  shape(run.text("--activation", activation, rows_in_words(activation_kinds), names_of_rows(activation_kinds)));
  shape(run.text("--positions", positions,
                 fmt::format("{}, as beside --attention-score alibi", rows_in_words(position_kinds)),
                 names_of_rows(position_kinds)));
  shape(run.number("--rope-theta", rope_theta, "Base of the rotary frequencies", {.above = 0, .most = 1e30}));
  run.text("--attention", attention,
           fmt::format("Kind of attention, or a comma list that repeats over the layers: {}",
                       fmt::join(mixer_kinds(), ", ")))
      .shapes(Shapes::model);
  shape(run.flag("--qk-norm", qk_norm, "RMS norms of each head's queries and keys"));
  std::string scores;
  for (const kernels::ScoreKindInfo& kind : kernels::score_kinds)
    scores += fmt::format("{}{}, {}", scores.empty() ? "" : "; or ", kind.form, kind.what);
  Declared score = run.text("--attention-score", attention_score,
                            fmt::format("What becomes of a score of attention before the softmax: {}", scores))
                       .type_name("KIND");
  shape(score);
  shape(run.number("--attention-softcap", attention_softcap, "The same as --attention-score softcap:C",
                   {.least = 0.01, .most = 1e6})
            .excludes(score));
  for (const Medium* medium : all_media())
    shape(run.text(fmt::format("--{}", medium->name), encoders[place_of(*medium)], encoder_help(*medium)));
  shape(run.text(
      "--media-attention", media_attention,
      fmt::format("Within {}: causal (default), or both ways", with_article(either_of(media_words(&Medium::noun)))),
      {"causal", "both"}));
  std::vector<std::string> kinds = media_words(&Medium::plural);
  kinds.insert(kinds.begin(), "text");
  shape(run.text("--modality-experts", modality_experts,
                 fmt::format("Weights of their own for the rows of {}: of feed-forwards (ffn), or also of projections "
                             "and norms (all), with attention in common",
                             each_of(kinds)),
                 {"ffn", "all"}));
  run.number("--init-std", init_std, "Deviation of a new model's weights (default: 0.02)", {.above = 0, .most = 1e6})
      .shapes(Shapes::run)
      .of_new_model();
  shape(run.number("--logit-softcap", logit_softcap, "Keep logits between -C and C: C tanh(logits / C)",
                   {.least = 0.01, .most = 1e6}));
  shape(run.flag("--biases,!--no-biases", biases, "Biases in linear layers and norms"));
  shape(run.flag("--tied,!--untied", tied, "The head shares the embedding's matrix"));
}

std::string ModelOptions::shape_option() const {
  for (const std::string& name : options_->in_group("Model"))
    if (name != "--context" && name != "--attention" && options_->given(name)) return name;
  return "";
}

Config ModelOptions::config(int64_t tokens) const {
  Config c = hone::preset(preset.value_or("nano"));
  BlockBlueprint& b = c.block;
  LayerBlueprint layer = c.layers.front();
  if (norm) b.norm = place_called<NormKind>(norm_kinds, *norm, "norm");
  if (norm_epsilon) b.norm_epsilon = static_cast<float>(*norm_epsilon);
  if (activation) b.activation = place_called<ActivationKind>(activation_kinds, *activation, "activation");
  if (positions) b.positions = place_called<PositionKind>(position_kinds, *positions, "kind of positions");
  if (rope_theta && !info_of(b.positions).turns)
    throw usage_error("--rope-theta has no effect on {}; leave it out, or give --positions rotary",
                      info_of(b.positions).what);
  if (rope_theta) b.rope_theta = *rope_theta;
  if (logit_softcap) c.logit_softcap = static_cast<float>(*logit_softcap);
  if (biases) b.biases = *biases;
  if (tied) c.tied = *tied;
  if (context) c.context = *context;
  if (dim) b.dim = *dim;
  if (heads) layer.heads = layer.kv_heads = *heads;
  if (kv_heads) layer.kv_heads = *kv_heads;
  if (layer.heads < 1) throw usage_error("--heads must be at least 1");
  if (dim || heads) {
    if (!head_dim && b.dim % layer.heads)
      throw usage_error("dim {} is not a multiple of {} heads; choose another number or give --head-dim", b.dim,
                        layer.heads);
    b.head_dim = b.dim / layer.heads;
  }
  if (head_dim) b.head_dim = *head_dim;
  // A gated activation has three matrices where others have two: two thirds of the width keep the parameters, in steps
  // of 64 for the kernels.
  if (dim || activation)
    layer.ffn = info_of(b.activation).gated ? std::max<int64_t>(64, (b.dim * 8 / 3 + 32) / 64 * 64) : 4 * b.dim;
  if (ffn) layer.ffn = *ffn;
  layer.qk_norm = qk_norm;
  if (attention_softcap) layer.score = softcap_score(static_cast<float>(*attention_softcap));
  if (attention_score) {
    try {
      score_rule(*attention_score);
    } catch (const Error& error) {
      throw usage_error("--attention-score: {}", error.what());
    }
    layer.score = *attention_score;
  }
  const int64_t count = layers.value_or(static_cast<int64_t>(c.layers.size()));
  if (count < 1 || count > 4096) throw usage_error("--layers must be between 1 and 4096, not {}", count);
  c.layers.assign(static_cast<size_t>(count), layer);
  if (attention) set_attention(c, *attention);
  if (std::ranges::none_of(c.layers, [](const LayerBlueprint& l) { return attends(l.attention); }))
    for (const auto& [given, option] : {std::pair(kv_heads.has_value(), "--kv-heads"), std::pair(qk_norm, "--qk-norm"),
                                        std::pair(attention_score.has_value(), "--attention-score"),
                                        std::pair(attention_softcap.has_value(), "--attention-softcap")})
      if (given) throw usage_error("{} is of attention, and no layer of '--attention {}' has any", option, *attention);
  std::vector<std::string> takes;  // options that give an encoder
  for (const Medium* medium : all_media()) {
    takes.push_back(fmt::format("--{}", medium->name));
    const std::optional<std::string>& name = encoders[place_of(*medium)];
    if (!name) continue;
    const auto kind = for_option(takes.back(), [&] { return encoder_kind(*name); });
    if (&kind->medium() != medium)
      throw usage_error("--{} '{}': that is an encoder for {}", medium->name, *name, kind->medium().name);
    c.encoders.push_back(kind->name());
  }
  c.media_both_ways = media_attention == "both";
  if (media_attention && c.encoders.empty()) throw usage_error("--media-attention needs {}", either_of(takes));
  if (modality_experts && c.encoders.empty()) throw usage_error("--modality-experts needs {}", either_of(takes));
  if (modality_experts)
    set_modality_experts(c, *modality_experts == "all" ? ModalityExperts::all : ModalityExperts::ffn);
  c.vocabulary = tokens;
  c.padded_vocabulary = tokens;
  if (vocabulary) {
    if (*vocabulary < tokens)
      throw usage_error("--vocab {} is smaller than the {} tokens of the tokenizer", *vocabulary, tokens);
    c.padded_vocabulary = *vocabulary;
  }
  check(c);
  return c;
}

}  // namespace hone::cli
