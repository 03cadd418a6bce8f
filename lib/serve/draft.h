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

// What a further row of a step costs beside one step of a single row: its attention and the arithmetic of its products,
// where the first row has paid for reading the weights.
constexpr double row_cost = 0.2;

// A guessed token, and what it was drawn from.
struct Drafted {
  int32_t token;
  Distribution from;
};

// What drafting takes, in steps of one token of the model.
struct DraftCost {
  double token = 0;   // of a token that is drafted
  double unsure = 0;  // of looking for one, and being too unsure to draft it
  double back = 0;    // at most, of reading what was written while nothing was drafted
};

class Drafter {
 public:
  virtual ~Drafter() = default;
  // At most `most` guesses of what follows `sequence`: all tokens of the text so far, of which the session has seen
  // all but the last.
  virtual std::vector<Drafted> propose(std::span<const int32_t> sequence, int64_t most) = 0;
  // Once the prompt has been read: until then weights may not have the form that products read.
  virtual DraftCost cost() const = 0;
  // The prompt, before the first draft: that belongs to what a prompt takes. `chunk` tokens at once.
  virtual void read_prompt(std::span<const int32_t> /*prompt*/, int64_t /*chunk*/) {}
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
std::vector<std::string> draft_examples();  // of each kind but "model", for tests of every row
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

// Says so where a draft is a model that reads no less than the other.
void warn_of_dear_draft(const OpenDraft& draft, const Model& target);

// Throws Error(usage) for a kind that is none, numbers that it does not take or that the model cannot serve, and
// settings outside their ranges.
void check(const DraftSettings& settings, const Transformer& target);
std::unique_ptr<Drafter> make_drafter(const DraftSettings& settings, const Transformer& target, Session& session,
                                      const SamplingSettings& sampling, uint64_t seed, int32_t banned);

// How many tokens to ask a drafter for: as many as gain most, by what asking costs, how often it was sure lately and
// what was accepted. Where none gains anything it asks for none, and for one token ever more rarely. It looks at no
// clock, so that a run repeats.
class DraftLength {
 public:
  DraftLength(int64_t most, const DraftCost& cost) : most_(most), cost_(cost) {}
  int64_t next(int64_t room);  // of this step, at most `room`
  // Of what next() gave last: fewer drafted where the drafter was unsure.
  void took(int64_t drafted, int64_t accepted);

 private:
  static constexpr int64_t shortest_pause = 16, longest_pause = 512;

  int64_t best() const;

  int64_t most_;
  DraftCost cost_;
  int64_t asked_ = 0;
  // Decaying counts. They begin so that something cheap is tried with a token or two, and something dear with one.
  double accepted_ = 1, refused_ = 0.5, sure_ = 1, unsure_ = 0.5;
  int64_t pause_ = 0, pauses_ = shortest_pause;  // steps without drafts, left and next
};

// What a token of the first `layers` blocks and the head reads of weights, in bytes.
double stored_bytes(const Transformer& model, int64_t layers = INT64_MAX);

}  // namespace hone
