// Drafts: tokens that something cheaper than the model guesses, and the model then reads all at once (speculative
// decoding, Leviathan et al. 2023, arXiv 2211.17192). Whatever is guessed, the text stays what the model alone writes:
// bit for bit with temperature 0, in distribution otherwise.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/session.h"
#include "model/store.h"
#include "serve/sampling.h"

namespace hone {

struct DraftSettings {
  std::string kind;                    // a row of draft_kinds(), or empty: no drafts
  const Transformer* model = nullptr;  // of the kind "model"
  int64_t tokens = 7;                  // drafted at most before the model reads them; up to most_drafted
  double min_probability = 0.4;        // a draft ends before a token that its drafter gives less; models alone
};

// With the token before them as many as attention reads with the bits of single steps (nn/attention).
constexpr int64_t most_drafted = 7;

// A guessed token, and what it was drawn from.
struct Drafted {
  int32_t token;
  Distribution from;
};

class Drafter {
 public:
  virtual ~Drafter() = default;
  // At most `most` guesses of what follows `sequence`: all tokens of the text so far, of which the session has seen
  // all but the last.
  virtual std::vector<Drafted> propose(std::span<const int32_t> sequence, int64_t most) = 0;
  // Of a drafted token, as a part of what a token of the model costs.
  virtual double cost() const = 0;
};

// What a drafter is made from.
struct DraftSource {
  const DraftSettings& settings;
  std::vector<int64_t> numbers;  // behind the kind's name: "self:4"
  const Transformer& target;
  Session& session;  // of the model whose text it is, one sequence
  const SamplingSettings& sampling;
  Random random;
  int32_t banned;  // a token never to choose, -1 for none
};

// Each kind as it is written: "ngram[:N]", "self:LAYERS". Beside them "model": another one, of the same tokenizer.
std::vector<std::string> draft_kinds();
bool is_draft_kind(const std::string& name);
// Whether its guesses come with probabilities, which DraftSettings::min_probability looks at. A model's do: any name
// that is no kind.
bool draft_knows_probabilities(const std::string& name);

// A draft as a person names it: a kind, or the file of a model, which is held here for its settings.
struct OpenDraft {
  DraftSettings settings;
  Model model;
};
// Throws Error(usage) for what is neither.
void check_draft_name(const std::string& name);
// Throws as check_draft_name() and check(), Error(input) for a file that cannot be read or has another tokenizer.
OpenDraft open_draft(const std::string& name, const Model& target, int64_t tokens, double min_probability);

// Throws Error(usage) for a kind that is none, numbers that it does not take or that the model cannot serve, and
// settings outside their ranges.
void check(const DraftSettings& settings, const Transformer& target);
std::unique_ptr<Drafter> make_drafter(const DraftSettings& settings, const Transformer& target, Session& session,
                                      const SamplingSettings& sampling, uint64_t seed, int32_t banned);

// How many tokens to draft next: as many as gain most, given what was accepted lately. Where none gains anything it
// drafts none, and tries again ever more rarely. It looks at no clock, so that a run repeats.
class DraftLength {
 public:
  DraftLength(int64_t most, double cost) : most_(most), cost_(cost) {}
  int64_t next();  // of this step
  void took(int64_t drafted, int64_t accepted);

 private:
  int64_t best() const;

  int64_t most_;
  double cost_;
  double accepted_ = 4, refused_ = 1;  // decaying counts: a beginning that tries
  int64_t pause_ = 0, pauses_ = 8;     // steps without drafts, left and next
};

// What a token of the first `layers` blocks and the head reads of weights, in bytes.
double stored_bytes(const Transformer& model, int64_t layers = INT64_MAX);

}  // namespace hone
