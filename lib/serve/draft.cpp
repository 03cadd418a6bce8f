#include "serve/draft.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/error.h"
#include "base/log.h"
#include "base/rows.h"
#include "base/units.h"
#include "model/verify_groups.h"
#include "serve/drafts/kinds.h"

namespace hone {
namespace {

struct Row {
  const char* form;     // the name, and what its numbers are
  const char* example;  // for tests; of what is drafted from a file: none
  void (*check)(const DraftSettings&, const std::vector<int64_t>& numbers, const Transformer& target);
  std::unique_ptr<Drafter> (*make)(DraftSource source);
  bool knows_probabilities = true;  // of what it guesses
};

constexpr Row table[] = {
    {"ngram[:N]", "ngram:2", check_ngram_draft, ngram_draft, false},
    {"self:LAYERS", "self:1", check_self_draft, self_draft},
    {"model", nullptr, check_model_draft, model_draft},
};

// Null: none.
const Row* row_of(const std::string& name) {
  const std::optional<size_t> place = find_form<size_t>(table, name);
  return place ? &table[*place] : nullptr;
}

std::vector<int64_t> numbers_of(const std::string& name, const Row& row) {
  std::vector<int64_t> numbers = hone::numbers_of("draft", name, row.form);
  for (const int64_t number : numbers)
    if (number < 1) throw usage_error("draft '{}': {} is too few; write {}", name, number, row.form);
  return numbers;
}

}  // namespace

std::vector<std::string> draft_kinds() {
  std::vector<std::string> forms;
  for (const Row& row : table)
    if (row.make != model_draft) forms.emplace_back(row.form);
  return forms;
}

std::vector<std::string> draft_examples() {
  std::vector<std::string> examples;
  for (const Row& row : table)
    if (row.make != model_draft) examples.emplace_back(row.example);
  return examples;
}

bool is_draft_kind(const std::string& name) {
  const Row* row = row_of(name);
  return row && row->make != model_draft;
}

bool draft_knows_probabilities(const std::string& name) {
  const Row* row = row_of(name);
  return !row || row->knows_probabilities;
}

void check_draft_name(const std::string& name) {
  if (!is_draft_kind(name) && !std::filesystem::exists(name))
    throw usage_error("draft '{}' is no model file and no kind; known kinds: {}", name, fmt::join(draft_kinds(), ", "));
}

OpenDraft open_draft(const std::string& name, const Model& target, int64_t tokens, double min_probability) {
  check_draft_name(name);
  OpenDraft draft;
  draft.settings = {is_draft_kind(name) ? name : "model", nullptr, tokens, min_probability};
  if (draft.settings.kind == "model") {
    draft.model = load_model(name, {.defer = true});
    verify_in_groups(draft.model);
    set_rounding(draft.model, target.rounding);
    if (draft.model.tokenizer != target.tokenizer)
      throw input_error("the draft '{}' has another tokenizer than '{}'", name, target.path);
    draft.settings.model = draft.model.transformer.get();
  }
  check(draft.settings, *target.transformer);
  return draft;
}

void warn_of_dear_draft(const OpenDraft& draft, const Model& target) {
  if (!draft.settings.model) return;
  const double mine = stored_bytes(*draft.settings.model), theirs = stored_bytes(*target.transformer);
  if (mine >= theirs)
    log_warning("the draft '{}' reads {} a token, '{}' {}: it cannot make that faster", draft.model.path,
                format_bytes(mine), target.path, format_bytes(theirs));
}

void check(const DraftSettings& s, const Transformer& target) {
  if (s.tokens < 1 || s.tokens > most_drafted)
    throw usage_error("{} tokens cannot be drafted at once; 1 to {} can", s.tokens, most_drafted);
  if (!(s.min_probability >= 0 && s.min_probability <= 1))
    throw usage_error("the least probability of a drafted token must be between 0 and 1, not {}", s.min_probability);
  const Row& row = form_called(table, s.kind, "kind of draft");
  row.check(s, numbers_of(s.kind, row), target);
}

std::unique_ptr<Drafter> make_drafter(const DraftSettings& settings, const Transformer& target, Session& session,
                                      const SamplingSettings& sampling, uint64_t seed, int32_t banned) {
  check(settings, target);
  const Row& row = form_called(table, settings.kind, "kind of draft");
  return row.make({settings, numbers_of(settings.kind, row), target, session, sampling, Random(seed, "draft"), banned});
}

// The count that has the most expected tokens of a step over what the step costs. Each token is drafted with
// probability `sure` where those before it were, and accepted with probability `rate` where those before it were.
int64_t DraftLength::best() const {
  const double rate = accepted_ / (accepted_ + refused_);
  // A lookup that finds nothing has cost nothing.
  const double sure = cost_.unsure > 0 ? sure_ / (sure_ + unsure_) : 1;
  int64_t best = 0;
  double most = 1, tokens = 1, spent = 1, stands = 1, drafted = 1;
  for (int64_t count = 1; count <= most_; ++count) {
    spent += drafted * (1 - sure) * cost_.unsure;
    drafted *= sure;
    spent += drafted * (cost_.token + row_cost);
    stands *= sure * rate;
    tokens += stands;
    if (tokens / spent > most) most = tokens / spent, best = count;
  }
  return best;
}

int64_t DraftLength::next(int64_t room) {
  asked_ = 0;
  if (room <= 0) return 0;
  if (pause_ > 0) return --pause_, 0;
  asked_ = std::min(std::max<int64_t>(best(), 1), room);
  return asked_;
}

void DraftLength::took(int64_t drafted, int64_t accepted) {
  constexpr double most_lost = 0.02;           // of the steps of a pause, by the try behind it
  const double kept = best() > 0 ? 0.9 : 0.5;  // of the counts, a step; after a pause they are old
  if (asked_ == 0 || (drafted == 0 && cost_.unsure == 0)) return;
  if (drafted > 0) {
    accepted_ = kept * accepted_ + static_cast<double>(accepted);
    refused_ = kept * refused_ + (accepted < drafted ? 1 : 0);
  }
  sure_ = kept * sure_ + static_cast<double>(drafted);
  unsure_ = kept * unsure_ + (drafted < asked_ ? 1 : 0);
  if (best() > 0) {
    pauses_ = shortest_pause;
    return;
  }
  const double lost = std::max(cost_.token + row_cost, cost_.unsure) + cost_.back;
  pause_ = std::max(pauses_, static_cast<int64_t>(lost / most_lost));
  pauses_ = std::min(2 * pauses_, longest_pause);
}

double stored_bytes(const Transformer& model, int64_t layers) {
  struct Counter : Reader {
    int64_t layers = 0;
    std::string head;
    double bytes = 0;
    void weight(const ParameterInfo& info, const Weight& weight) override {
      if (info.role == Role::embedding && info.name != head) return;  // a row of it is read
      if (info.role == Role::encoder) return;
      if (info.layer < layers) bytes += static_cast<double>(weight.stored_bytes());
    }
    void parameter(const ParameterInfo&, const Parameter&) override {}
  } counter;
  counter.layers = layers;
  counter.head = model.head_name();
  model.visit(counter);
  return counter.bytes;
}

}  // namespace hone
