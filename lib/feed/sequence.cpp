#include "feed/sequence.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"

namespace hone {

const MediaPart* Sequence::first_of(size_t encoder) const {
  const auto found = std::ranges::find(parts, encoder, &MediaPart::encoder);
  return found == parts.end() ? nullptr : &*found;
}

LossRows loss_rows(const std::string& name) {
  if (name == "answers") return LossRows::answers;
  if (name == "text") return LossRows::text;
  if (name == "all") return LossRows::all;
  throw usage_error("a loss on '{}': there are answers, text and all", name);
}

SequenceReader::SequenceReader(Examples examples, std::shared_ptr<const Tokenizer> tokenizer, const Config& config,
                               int64_t context, const FeedSettings& settings)
    : examples_(std::move(examples)),
      tokenizer_(std::move(tokenizer)),
      parts_(config, settings.cache_bytes, settings.augmentations),
      context_(context),
      loss_(settings.loss),
      skip_broken_(settings.skip_broken) {
  check();
}

void SequenceReader::check() const {
  for (const Example& example : examples_.all) try {
      for (const ExamplePart& part : example.parts) parts_.require_encoder(part);
      if (loss_ == LossRows::answers && !example.has_answer)
        throw input_error("no answer, which alone would be scored");
    } catch (const Error& error) {
      throw input_error("{}: {}", examples_.where(example), error.what());
    }
}

namespace {

// Of each row, the token that is to follow it, or -1 where that is not scored.
std::vector<int32_t> targets_of(const Sequence& s, LossRows loss, int32_t separator) {
  const std::vector<bool> is_text = s.text();
  std::vector<int32_t> targets;
  for (int64_t row = 0; row < s.size(); ++row) {
    const auto at = static_cast<size_t>(row);
    const bool ends = row + 1 == s.size();
    const bool token = ends || is_text[at + 1];
    const bool of_answer = s.answer_row >= 0 && row >= s.answer_row;
    const bool scored = token && (loss == LossRows::all || of_answer || (loss == LossRows::text && is_text[at]));
    targets.push_back(!scored ? -1 : ends ? separator : s.ids[at + 1]);
  }
  return targets;
}

}  // namespace

std::optional<Sequence> SequenceReader::read(int64_t index, uint64_t seed) {
  const Example& example = examples_.all[static_cast<size_t>(index)];
  Random random(seed, "augment");
  Sequence s;
  s.example = index;
  s.weight = example.weight;
  try {
    parts_.read(example.parts, *tokenizer_, s, {.random = seed ? &random : nullptr});
    if (s.ids.empty()) s.add({tokenizer_->separator()});
    if (example.has_answer) {
      const std::vector<int32_t> answer = tokenizer_->encode(example.answer);
      s.answer_row = s.size() - 1;
      s.answer_tokens = static_cast<int64_t>(answer.size());
      s.add(answer);
    }
    if (s.size() > context_)
      throw input_error("{} rows of text and media, more than the context of {}", s.size(), context_);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) throw;
    const std::string what = fmt::format("{}: {}", examples_.where(example), error.what());
    if (!skip_broken_) throw input_error("{}", what);
    const std::lock_guard lock(mutex_);
    if (broken_.emplace(index, true).second) log_debug("skipped: {}", what);
    return std::nullopt;
  }
  s.targets = targets_of(s, loss_, tokenizer_->separator());
  return s;
}

int64_t SequenceReader::broken() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(broken_.size());
}

}  // namespace hone
