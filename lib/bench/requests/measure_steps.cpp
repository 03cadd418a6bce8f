// Times of steps, through what the engine itself calls.
#include <algorithm>
#include <cmath>
#include <set>

#include "base/clock.h"
#include "base/random.h"
#include "bench/requests/step_costs.h"
#include "report/statistics.h"

namespace hone {
namespace {

constexpr int64_t block = kernels::attention_block;

// What a cache holds beyond whole texts makes no step longer.
EngineSettings with_small_cache(EngineSettings s) {
  const int64_t pages = (s.capacity + s.page_rows - 1) / s.page_rows;
  s.cache_tokens = std::min(s.cache_tokens, s.parallel * pages * s.page_rows);
  return s;
}

class StepTimer {
 public:
  StepTimer(const Transformer& model, const EngineSettings& settings, int64_t repeat)
      : model_(model),
        s_(with_small_cache(settings)),
        repeat_(repeat),
        executor_(model, s_),
        state_(executor_.state()),
        pages_(s_.cache_tokens / s_.page_rows) {}

  StepCosts run(const std::function<void(size_t, size_t)>& progress) {
    make_grid();
    fill();
    const size_t all = costs_.rows.size() * costs_.chunks.size() + costs_.contexts.size();
    size_t done = 0;
    for (const int64_t rows : costs_.rows)
      for (const int64_t chunk : costs_.chunks) {
        const bool never = chunk > (rows > 0 ? piece_ : s_.chunk) || rows + (chunk > 0) > s_.parallel;
        costs_.seconds.push_back(never ? NAN : time(rows, chunk, 0));
        progress(++done, all);
      }
    extend();
    const int64_t rows = std::min<int64_t>(s_.parallel, 16);
    std::vector<double> row, chunk;
    for (size_t context = 0; context < costs_.contexts.size(); ++context) {
      row.push_back(time(rows, 0, context) / static_cast<double>(rows));
      chunk.push_back(time(0, piece_, context) / static_cast<double>(piece_));
      costs_.row_more.push_back(std::max(0.0, row.back() - row.front()));
      costs_.chunk_more.push_back(std::max(0.0, chunk.back() - chunk.front()));
      progress(++done, all);
    }
    return std::move(costs_);
  }

 private:
  void make_grid() {
    costs_.rows = {0};
    for (const int64_t rows : {1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096})
      if (rows < s_.parallel) costs_.rows.push_back(rows);
    costs_.rows.push_back(s_.parallel);
    piece_ = std::min(s_.busy_chunk, s_.capacity);
    const int64_t longest = std::min(s_.chunk, s_.capacity);
    std::set<int64_t> chunks = {0, 1, piece_, longest};
    for (int64_t chunk = 16; chunk < longest; chunk *= 2) chunks.insert(chunk);
    costs_.chunks.assign(chunks.begin(), chunks.end());
    // Room for a piece and a token behind the last.
    const int64_t last = std::max<int64_t>(0, s_.capacity - s_.busy_chunk) / block * block;
    costs_.contexts = {0};
    for (int64_t context = block; context < last; context *= 2) costs_.contexts.push_back(context);
    if (last > 0) costs_.contexts.push_back(last);
  }

  // Real keys and values in all pages, so that none of them is an empty page of the system's, and none is shared.
  void fill() {
    for (int64_t slot = 0; slot < s_.parallel; ++slot)
      for (int64_t page = 0; page < state_.table().per_sequence; ++page)
        state_.table().at(slot, page) = static_cast<int32_t>((slot * state_.table().per_sequence + page) % pages_);
    state_.begin(0, 0, nullptr);
    kept_.push_back(state_.keep(0));
    for (size_t i = 1; i < costs_.contexts.size(); ++i) {
      for (int64_t first = costs_.contexts[i - 1]; first < costs_.contexts[i];) {
        const int64_t count = std::min(s_.chunk, costs_.contexts[i] - first);
        executor_.read({{0, first, count, Phase::prompt}}, ids(count), Phase::prompt);
        first += count;
      }
      kept_.push_back(state_.keep(0));
    }
    const int64_t full = std::max<int64_t>(1, costs_.contexts.back() / s_.page_rows);
    for (int64_t page = full; page < pages_; ++page)
      state_.copy_page(static_cast<int32_t>(page % full), static_cast<int32_t>(page), s_.page_rows);
  }

  std::vector<int32_t> ids(int64_t count) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < count; ++i)
      ids.push_back(static_cast<int32_t>(1 + random_.below(static_cast<uint64_t>(model_.config().vocabulary - 1))));
    return ids;
  }

  // Of a step as the engine takes it: calls, logits and choices.
  double step(int64_t rows, int64_t chunk, size_t context) {
    std::vector<Span> steps, piece;
    const int64_t before = costs_.contexts[context];
    for (int64_t slot = 0; slot < rows + (chunk > 0); ++slot) {
      state_.begin(slot, before, executor_.keeps() ? &kept_[context] : nullptr);
      if (slot < rows)
        steps.push_back({slot, before, 1, Phase::step});
      else
        piece.push_back({slot, before, chunk, Phase::prompt});
    }
    const std::vector<int32_t> step_ids = ids(rows), piece_ids = ids(chunk);
    const Stopwatch watch;
    Tensor hidden;
    if (!piece.empty() && !steps.empty() && executor_.mixes()) {
      std::vector<int32_t> all = step_ids;
      all.insert(all.end(), piece_ids.begin(), piece_ids.end());
      steps.insert(steps.end(), piece.begin(), piece.end());
      hidden = executor_.read(steps, all, Phase::prompt);
    } else {
      if (!piece.empty()) hidden = executor_.read(piece, piece_ids, Phase::prompt);
      if (!steps.empty()) hidden = executor_.read(steps, step_ids, Phase::step);
    }
    const Tensor logits = executor_.logits(hidden.rows(0, std::max<int64_t>(rows, 1)), Phase::step);
    for (int64_t row = 0; row < rows; ++row) sampler_.next(logits.rows(row, 1).span<float>(), {}, -1);
    return watch.seconds();
  }

  double time(int64_t rows, int64_t chunk, size_t context) {
    if (rows + chunk == 0) return 0;
    std::vector<double> seconds;
    step(rows, chunk, context);  // warm
    for (int64_t i = 0; i < repeat_; ++i) seconds.push_back(step(rows, chunk, context));
    return median(seconds);
  }

  // Where no step is: what it would be if rows and piece were apart from each other.
  void extend() {
    const size_t width = costs_.chunks.size();
    for (size_t row = 1; row < costs_.rows.size(); ++row)
      for (size_t chunk = 1; chunk < width; ++chunk) {
        double& at = costs_.seconds[row * width + chunk];
        if (std::isnan(at))
          at = costs_.seconds[row * width + chunk - 1] +
               std::max(0.0, costs_.seconds[chunk] - costs_.seconds[chunk - 1]);
      }
  }

  const Transformer& model_;
  EngineSettings s_;
  int64_t repeat_, piece_ = 0;
  ModelExecutor executor_;
  State& state_;
  int64_t pages_;
  std::vector<State::Kept> kept_;  // at each context
  Random random_{1, "steps"};
  Sampler sampler_{SamplingSettings(), Random(1, "sampling")};
  StepCosts costs_;
};

}  // namespace

StepCosts measure_step_costs(const Transformer& model, const EngineSettings& settings, int64_t repeat,
                             const std::function<void(size_t done, size_t all)>& progress) {
  return StepTimer(model, settings, repeat).run(progress);
}

}  // namespace hone
