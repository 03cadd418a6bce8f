// Generation of text, token by token.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dataset/tokenizer.h"
#include "model/exit_rule.h"
#include "model/session.h"
#include "serve/draft.h"
#include "serve/sampling.h"

namespace hone {

// How deep tokens go.
struct ExitSettings {
  std::optional<ExitRule> rule = {};  // a token ends at the first exit that is sure; none: no exit is asked
  int64_t max_depth = 0;              // layers that the prompt and all tokens go through at most; 0: all
  Session::Filling filling = Session::Filling::exact;
  explicit operator bool() const { return rule || max_depth > 0; }
};

// Throws Error(usage) for a model without exits where a rule asks for them, and for a depth without layer or exit.
void check(const ExitSettings& settings, const Config& config);

struct GenerateSettings {
  int64_t tokens = 200;  // at most
  SamplingSettings sampling;
  std::vector<std::string> stops;  // the text ends before the first of these
  bool ignore_end = false;         // never choose the document separator, which otherwise ends the text
  int64_t prefill_chunk = 512;     // tokens of the prompt that go through the model at once
  DType type = DType::f32;
  kernels::CacheCode code = kernels::CacheCode::none;  // of the cache
  DraftSettings draft;
  ExitSettings exits;       // not together with drafts
  uint64_t draft_seed = 1;  // of what drafters draw; the text's own tokens come from the caller's stream
};

enum class Finish {
  length,       // all tokens were generated
  stop,         // a stop text appeared
  end,          // the model ended the document
  context,      // the learned positions are used up
  interrupted,  // the caller wanted no more
  failed,       // the model gave logits that are not numbers: of an Engine, where the others go on
};
const char* name_of(Finish finish);

struct Generated {
  std::vector<int32_t> tokens;  // all that were chosen, those of a stop text included, a document separator not
  std::string text;             // what was handed to on_text, together
  Finish finish = Finish::length;
  int64_t prompt_tokens = 0;
  double prefill_seconds = 0;  // until the first token was chosen
  double decode_seconds = 0;   // for the tokens after it
  // With drafts: calls of the model after the prompt's, tokens guessed before them, how many of those the model compared
  // with its own (of each draft up to the first that it refused), and how many stand.
  int64_t steps = 0, drafted = 0, verified = 0, accepted = 0;
  // With exits: how many layers the call went through that each token was chosen by; the first one's was the prompt's.
  std::vector<int64_t> depths;
  double mean_depth() const;
  ModelDepth depth;  // of a model with routers of depth: who went through, prompt and text
};

// Continues `prompt`, which may hold images and sounds; an empty one begins a document (after a separator). `on_text`
// gets the text as it becomes certain: whole UTF-8 characters only (U+FFFD for bytes that are no part of one), nothing
// of
// a stop text; it returns false to end the generation. Rotary positions go on beyond the model's context; with learned
// ones the text ends there
// (Finish::context), and a longer prompt throws Error(input). Throws Error(usage) as Sampler, StopText, Session and
// make_drafter() do.
Generated generate(const Transformer& model, const Tokenizer& tokenizer, const Input& prompt,
                   const GenerateSettings& settings, Random random,
                   const std::function<bool(std::string_view text)>& on_text = {});

}  // namespace hone
