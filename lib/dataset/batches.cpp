#include "dataset/batches.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "base/random.h"

namespace hone {

BatchSampler::BatchSampler(Corpus corpus, int64_t context, uint64_t seed, Shuffle shuffle)
    : corpus_(std::move(corpus)), context_(context), seed_(seed), order_(1, 0) {
  require_window(corpus_, context_);
  if (shuffle == Shuffle::documents) documents_.emplace(corpus_);
  begin_pass();
}

int64_t BatchSampler::windows() const {
  return (corpus_.size() - 1 - phase_) / context_;
}

void BatchSampler::begin_pass() {
  position_ = 0;
  Random random(mix64(seed_) + pass_, "batches");
  // The last place where a window still fits bounds the phase in a corpus of less than two windows.
  phase_ = static_cast<int64_t>(random.below(static_cast<uint64_t>(std::min(context_, corpus_.size() - context_))));
  order_ = Permutation(static_cast<uint64_t>(windows()), random.next());
  if (documents_) documents_->shuffle(random.next());
}

void BatchSampler::copy(int64_t begin, int32_t* out) const {
  if (documents_)
    documents_->copy(corpus_, begin, context_, out);
  else
    corpus_.copy(begin, context_, out);
}

void BatchSampler::next(std::span<int32_t> inputs, std::span<int32_t> targets) {
  const auto width = static_cast<size_t>(context_);
  if (inputs.size() != targets.size() || inputs.size() % width != 0)
    throw internal_error("batches of {} inputs and {} targets are not rows of {}", inputs.size(), targets.size(),
                         context_);
  starts_.clear();
  for (size_t row = 0; row < inputs.size(); row += width) {
    const int64_t begin = draw();
    starts_.push_back(begin);
    copy(begin, inputs.data() + row);
    copy(begin + 1, targets.data() + row);
  }
}

int64_t BatchSampler::draw() {
  if (position_ == windows()) {
    ++pass_;
    begin_pass();
  }
  drawn_ += context_;
  return phase_ + static_cast<int64_t>(order_(static_cast<uint64_t>(position_++))) * context_;
}

void BatchSampler::skip(int64_t windows) {
  for (int64_t i = 0; i < windows; ++i) draw();
}

void BatchSampler::set_context(int64_t context) {
  if (context == context_) return;
  require_window(corpus_, context);
  context_ = context;
  ++pass_;
  begin_pass();
}

nlohmann::json BatchSampler::state() const {
  return {{"corpus_tokens", corpus_.size()}, {"context", context_}, {"seed", seed_}, {"pass", pass_},
          {"position", position_},           {"tokens", drawn_}};
}

void BatchSampler::restore(const nlohmann::json& state) {
  const auto number = [&](const char* key) {
    const auto found = state.is_object() ? state.find(key) : state.end();
    if (!state.is_object() || found == state.end() || !found->is_number_integer() ||
        (!found->is_number_unsigned() && found->get<int64_t>() < 0))
      throw input_error("the saved position in the data has no number \"{}\": the checkpoint is damaged", key);
    return found->get<uint64_t>();
  };
  const uint64_t size = number("corpus_tokens"), context = number("context"), position = number("position");
  if (size != static_cast<uint64_t>(corpus_.size()))
    throw input_error("the checkpoint was made on a text of {} tokens, but {} has {}: resume with the same text", size,
                      corpus_.name(), corpus_.size());
  const uint64_t drawn = number("tokens");
  if (context == 0 || context >= size || drawn > INT64_MAX)
    throw input_error("the saved position in the data (context {}, {} tokens) is impossible: the checkpoint is damaged",
                      context, drawn);
  BatchSampler restored = *this;
  restored.context_ = static_cast<int64_t>(context);
  restored.seed_ = number("seed");
  restored.pass_ = number("pass");
  restored.begin_pass();
  if (position > static_cast<uint64_t>(restored.windows()))
    throw input_error("the saved position in the data (window {} of {}) is impossible: the checkpoint is damaged",
                      position, restored.windows());
  restored.position_ = static_cast<int64_t>(position);
  restored.drawn_ = static_cast<int64_t>(drawn);
  *this = std::move(restored);
}

}  // namespace hone
