// Timed runs of a model: a prompt, then token by token; and what such runs compute and read, for fractions of the
// machine's ceilings.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/transformer.h"

namespace hone {

struct GenerationShape {
  int64_t batch = 1;
  int64_t prompt = 512;   // tokens of each sequence, at least 1
  int64_t generate = 64;  // steps of one token for each sequence, after the prompt
  DType type = DType::f32;
  int64_t chunk = 2048;                                // tokens of each prompt that go through the model at once
  kernels::CacheCode code = kernels::CacheCode::none;  // of the cache
};

struct GenerationTimes {
  double prefill_seconds = 0;         // from the prompt's ids to the logits that the first new token is chosen by
  std::vector<double> step_seconds;   // of each step, from ids to logits
  AttentionMeter attention;           // of the prompt
  double step_attention_seconds = 0;  // of all steps together
  ModelDepth depth;                   // of prompt and steps
  double decode_seconds() const;
};

// Processes a prompt of random tokens with a new cache, then `generate` steps of random tokens. Choosing tokens is not
// a part of the model and not timed. Which tokens they are does not change the work, but a step reads their embeddings,
// and a model that repeats itself would find those in the cache. Throws Error(usage) where learned positions end before
// the last token.
GenerationTimes time_generation(const Transformer& model, const GenerationShape& shape, uint64_t seed);

// Same error as above, before anything is computed; `where` names the model.
void require_positions(const Config& config, int64_t length, const std::string& where);

// Multiplications and additions of matrix products and attention. Pruned elements count as if they were there, so that
// a speed-up by sparsity shows; norms, activations and lookups do not count. Of a layer with a router of depth
// counts the fraction of the tokens that goes through while a model trains; GenerationTimes::depth has what went.
double prefill_flops(const Transformer& model, const GenerationShape& shape);  // logits of each sequence's last token
double decode_flops(const Transformer& model, const GenerationShape& shape);   // of a token, mean over the steps
double training_flops(const Transformer& model, int64_t batch, int64_t context);  // of a step: 3 times the forward's

// Bytes that a step reads on average over the steps: each weight as stored, once for the whole batch (of an embedding
// that is not also the head only the rows looked up; of a mixture the experts that the batch's tokens would choose if
// they chose at random: with one token exactly its top-k), and keys and values of every position that a sequence sees.
// Weights in bf16 panels exist after the first product, so call this after a run.
double decode_step_bytes(const Transformer& model, const GenerationShape& shape);

// The forms of the linear layers' weights with their elements, and the bits of activations where they are 8; the one of
// most elements first: "bitmask int8 + panels int8 with int8 activations".
std::string weight_forms(const Transformer& model);
inline constexpr std::string_view eight_bits_mark = " with int8 activations";

}  // namespace hone
