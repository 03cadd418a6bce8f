#include "train/batch_source.h"

#include <algorithm>

#include "base/error.h"
#include "base/random.h"

namespace hone {

void TextBatches::next(int64_t sequences, TrainingBatch& batch) {
  inputs_.resize(static_cast<size_t>(sequences * context()));
  batch.targets.resize(inputs_.size());
  sampler_.next(inputs_, batch.targets);
  batch.rows.clear();
  batch.rows.add(inputs_);
  batch.spans = Batch::whole(sequences, context()).spans();
  batch.weights.clear();
  batch.starts.assign(sampler_.starts().begin(), sampler_.starts().end());
  batch.data_rows = static_cast<int64_t>(inputs_.size());
}

ExampleBatches::ExampleBatches(std::shared_ptr<SequenceReader> reader, int64_t context, uint64_t seed,
                               std::optional<std::pair<size_t, size_t>> contrasted)
    : reader_(std::move(reader)), context_(context), seed_(seed), contrasted_(contrasted) {}

void ExampleBatches::set_context(int64_t context) {
  if (context != context_) throw internal_error("examples are as long as they are, and not {}", context);
}

void ExampleBatches::place(int64_t position) {
  ahead_.reset();
  begun_ = position;
}

// Not before: the place and the turns may still be said, and what was read for others would be read for nothing.
SequencesAhead& ExampleBatches::ahead() {
  if (ahead_) return *ahead_;
  const size_t count = 256 * static_cast<size_t>(turns_.ranks);
  const auto size = static_cast<uint64_t>(reader_->size());
  const auto make = [reader = reader_, size, seed = seed_, turns = turns_,
                     position = begun_](int64_t at) -> std::optional<Sequence> {
    if (!turns.own(at - position)) return std::nullopt;
    const uint64_t pass = static_cast<uint64_t>(at) / size;
    Random random(mix64(seed) + pass, "examples");
    const Permutation order(size, random.next());
    const uint64_t example = order(static_cast<uint64_t>(at) % size);
    return reader->read(static_cast<int64_t>(example), mix64(seed ^ mix64(static_cast<uint64_t>(at))) | 1);
  };
  ahead_ = std::make_unique<SequencesAhead>(make, begun_, count);
  return *ahead_;
}

void ExampleBatches::next(int64_t sequences, TrainingBatch& batch) {
  std::vector<Sequence> all;
  for (int64_t i = 0; i < sequences; ++i) {
    if (!turns_.own(position() - begun_))
      throw internal_error("the example at {} is another rank's to read", position());
    all.push_back(ahead().next(reader_->size()));
  }
  // Sequences of one make lie together, which attention then computes together.
  std::stable_sort(all.begin(), all.end(), [](const Sequence& a, const Sequence& b) { return a.size() < b.size(); });
  batch = {};
  for (size_t i = 0; i < all.size(); ++i) {
    const Sequence& s = all[i];
    batch.spans.push_back({static_cast<int64_t>(i), 0, s.size()});
    batch.rows.add(s.input());
    batch.targets.insert(batch.targets.end(), s.targets.begin(), s.targets.end());
    batch.weights.insert(batch.weights.end(), s.ids.size(), s.weight);
    batch.data_rows += s.size();
  }
  if (contrasted_) add_pairs(all, batch);
  if (std::ranges::all_of(batch.weights, [](float w) { return w == 1; })) batch.weights.clear();
}

// A part must not see the one that it is to be found by: in its sequence the second would have read the first.
void ExampleBatches::add_pairs(const std::vector<Sequence>& all, TrainingBatch& batch) const {
  struct Alone {
    const Sequence* sequence;
    const MediaPart* part;
    ops::PooledRows* rows;
  };
  std::vector<Alone> alone;
  std::vector<std::pair<const Sequence*, int64_t>> pairs;  // and where the sequence begins
  int64_t row = 0;
  for (const Sequence& s : all) {
    if (s.first_of(contrasted_->first) && s.first_of(contrasted_->second)) pairs.emplace_back(&s, row);
    row += s.size();
  }
  batch.left.resize(pairs.size());
  batch.right.resize(pairs.size());
  for (size_t i = 0; i < pairs.size(); ++i)
    for (const auto& [encoder, rows] :
         {std::pair(contrasted_->first, &batch.left[i]), std::pair(contrasted_->second, &batch.right[i])}) {
      const auto [sequence, begins] = pairs[i];
      const MediaPart* const part = sequence->first_of(encoder);
      if (part->row == 0)
        *rows = {begins, part->rows()};
      else
        alone.push_back({sequence, part, rows});
    }
  std::ranges::stable_sort(alone, {}, [](const Alone& a) { return a.part->rows(); });
  for (const Alone& a : alone) {
    const int64_t count = a.part->rows();
    *a.rows = {row, count};
    batch.spans.push_back({static_cast<int64_t>(batch.spans.size()), 0, count});
    batch.rows.add(a.sequence->input(), a.part->row, count);
    batch.targets.insert(batch.targets.end(), static_cast<size_t>(count), -1);
    batch.weights.insert(batch.weights.end(), static_cast<size_t>(count), 1.0f);
    batch.data_rows += count;
    row += count;
  }
}

void ExampleBatches::skip(int64_t sequences) {
  if (!reader_->skips_broken()) return ahead().pass(sequences);
  for (int64_t i = 0; i < sequences; ++i) ahead().next(reader_->size());
}

void ExampleBatches::share(int64_t sequences, int rank, int ranks) {
  if (reader_->skips_broken()) return;  // where a batch begins depends on what can be read of those before
  turns_ = {sequences, rank, ranks};
  place(position());
}

nlohmann::json ExampleBatches::state() const {
  // As they come back from a file: a place is also restored where it was said, when a step is stopped half way.
  const auto number = [](int64_t n) { return static_cast<uint64_t>(n); };
  return {{"examples", number(reader_->size())}, {"seed", seed_}, {"position", number(position())}};
}

void ExampleBatches::restore(const nlohmann::json& state) {
  const auto number = [&](const char* key) {
    if (!state.is_object() || !state.contains(key) || !state[key].is_number_unsigned())
      throw input_error("the saved position in the data has no number \"{}\": the checkpoint is damaged", key);
    return state[key].get<uint64_t>();
  };
  if (number("examples") != static_cast<uint64_t>(reader_->size()))
    throw input_error("the checkpoint was made on {} examples, but {} has {}: resume with the same data",
                      number("examples"), reader_->examples().name(), reader_->size());
  if (number("position") > INT64_MAX) throw input_error("the saved position in the data is impossible");
  seed_ = number("seed");
  place(static_cast<int64_t>(number("position")));
}

}  // namespace hone
