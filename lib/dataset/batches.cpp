#include "dataset/batches.h"

#include <algorithm>
#include <bit>
#include <string>

#include "base/error.h"
#include "base/random.h"

namespace hone {

Permutation::Permutation(uint64_t size, uint64_t key)
    : size_(size), key_(key), half_bits_(std::max(1, (static_cast<int>(std::bit_width(size - 1)) + 1) / 2)) {}

uint64_t Permutation::operator()(uint64_t i) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  do {
    uint64_t left = i >> half_bits_, right = i & mask;
    for (uint64_t round = 0; round < 6; ++round) {
      const uint64_t mixed = mix64(key_ ^ mix64(round << 40 ^ right));
      const uint64_t new_right = left ^ (mixed & mask);
      left = right;
      right = new_right;
    }
    i = left << half_bits_ | right;
  } while (i >= size_);
  return i;
}

BatchSampler::BatchSampler(Corpus corpus, int64_t context, uint64_t seed)
    : corpus_(std::move(corpus)), context_(context), seed_(seed), order_(1, 0) {
  require_window(corpus_, context_);
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
}

void BatchSampler::next(std::span<int32_t> inputs, std::span<int32_t> targets) {
  const auto width = static_cast<size_t>(context_);
  if (inputs.size() != targets.size() || inputs.size() % width != 0)
    throw internal_error("batches of {} inputs and {} targets are not rows of {}", inputs.size(), targets.size(),
                         context_);
  starts_.clear();
  for (size_t row = 0; row < inputs.size(); row += width) {
    if (position_ == windows()) {
      ++pass_;
      begin_pass();
    }
    const auto window = static_cast<int64_t>(order_(static_cast<uint64_t>(position_++)));
    const int64_t begin = phase_ + window * context_;
    starts_.push_back(begin);
    corpus_.copy(begin, context_, inputs.data() + row);
    corpus_.copy(begin + 1, context_, targets.data() + row);
    drawn_ += context_;
  }
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
  BatchSampler restored(corpus_, static_cast<int64_t>(context), number("seed"));
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
