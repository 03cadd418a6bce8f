// Times of steps, through what the engine itself calls.
#include <algorithm>
#include <cmath>
#include <set>

#include "base/random.h"
#include "bench/requests/step_costs.h"
#include "dataset/tokenizer.h"
#include "report/statistics.h"

namespace hone {
namespace {

constexpr int64_t block = kernels::attention_block, tile = 16;

// What a cache holds beyond whole texts makes no step longer.
EngineSettings with_small_cache(EngineSettings s) {
  const int64_t pages = (s.capacity + s.page_rows - 1) / s.page_rows;
  s.cache_tokens = std::min(s.cache_tokens, s.parallel * pages * s.page_rows);
  return s;
}

// Computes nothing, and takes no time for it: what an engine takes then is its own.
class NoModel : public Executor {
 public:
  NoModel(Executor& clock, const EngineSettings& settings) : clock_(clock), state_(state_shape(settings)) {}
  const Config& config() const override { return clock_.config(); }
  State& state() override { return state_; }
  bool keeps() const override { return false; }
  bool mixes() const override { return true; }
  double now() const override { return clock_.now(); }
  void wait_until(double) override {}
  Tensor read(std::vector<Span>, std::span<const int32_t>, Phase) override { return {}; }
  Tensor logits(const Tensor&, Phase) override { return {}; }

 private:
  Executor& clock_;
  State state_;
};

// Seconds of an engine's step for `rows` texts without the model, and without the choice of their tokens.
double own_seconds(Executor& clock, EngineSettings s, int64_t rows) {
  constexpr int64_t repeat = 32;
  s.parallel = rows;
  s.capacity = rows + repeat + 2;
  s.cache_tokens = rows * ((s.capacity + s.page_rows - 1) / s.page_rows) * s.page_rows;
  s.batching = default_batching();
  Engine engine(std::make_unique<NoModel>(clock, s), *byte_tokenizer(), s);
  for (int64_t i = 0; i < rows; ++i) {
    Request request;
    request.prompt = {1};
    request.tokens = s.capacity;
    request.ignore_end = true;
    engine.submit(std::move(request));
  }
  for (int64_t i = 0; i < rows; ++i) engine.step();  // each reads a prompt
  std::vector<double> seconds;
  for (int64_t i = 0; i < repeat; ++i) {
    const double begin = clock.now();
    engine.step();
    seconds.push_back(clock.now() - begin);
  }
  return median(seconds);
}

class StepTimer {
 public:
  StepTimer(Executor& executor, const EngineSettings& settings, int64_t repeat)
      : s_(settings),
        repeat_(repeat),
        executor_(executor),
        state_(executor_.state()),
        pages_(s_.cache_tokens / s_.page_rows) {}

  StepCosts run(const std::function<void(size_t, size_t)>& progress) {
    make_grid();
    fill();
    const size_t all = costs_.rows.size() * costs_.chunks.size() + costs_.contexts.size() * costs_.pieces.size();
    size_t done = 0;
    for (const int64_t rows : costs_.rows)
      for (const int64_t chunk : costs_.chunks) {
        const bool never = chunk > (rows > 0 ? piece_ : s_.chunk) || rows + (chunk > 0) > s_.parallel;
        costs_.seconds.push_back(never ? NAN : time(rows, chunk, 0));
        progress(++done, all);
      }
    extend();
    add_own();
    add_contexts([&] { progress(++done, all); });
    time_after_wait();
    costs_.spread = some_of(spread_);
    costs_.piece_spread = some_of(piece_spread_);
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
    // In the middle of tiles of 16 rows: what is measured at their ends is less than most pieces take.
    for (int64_t chunk = tile; chunk < longest; chunk *= 2)
      for (const int64_t size : {chunk, chunk * 3 / 2 / tile * tile})
        if (size + tile / 2 < longest) chunks.insert(size + tile / 2);
    costs_.chunks.assign(chunks.begin(), chunks.end());
    costs_.pieces = {0};
    for (const int64_t size : {int64_t{1}, block, piece_})
      if (size <= piece_ && size > costs_.pieces.back()) costs_.pieces.push_back(size);
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
      ids.push_back(static_cast<int32_t>(1 + random_.below(static_cast<uint64_t>(executor_.config().vocabulary - 1))));
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
    const double begin = executor_.now();
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
    // The last piece of a prompt has a token chosen behind it; most pieces are the last.
    const int64_t chosen = std::min(hidden.dim(0), rows + (chunk > 0));
    const Tensor logits = executor_.logits(hidden.rows(0, chosen), Phase::step);
    for (int64_t row = 0; row < chosen; ++row) sampler_.next(logits.rows(row, 1).span<float>(), {}, -1);
    return executor_.now() - begin;
  }

  double time(int64_t rows, int64_t chunk, size_t context) {
    if (rows + chunk == 0) return 0;
    std::vector<double> seconds;
    step(rows, chunk, context);  // warm
    for (int64_t i = 0; i < repeat_; ++i) seconds.push_back(step(rows, chunk, context));
    const double typical = median(seconds);
    if (typical > 0)
      for (const double one : seconds) (chunk > 0 ? piece_spread_ : spread_).push_back(one / typical);
    return typical;
  }

  // What stands before tokens is read for each that is written, and once for a piece, which then computes with it.
  void add_contexts(const std::function<void()>& timed) {
    const int64_t rows = std::min<int64_t>(s_.parallel, 16);
    std::vector<double> first;
    for (size_t context = 0; context < costs_.contexts.size(); ++context)
      for (size_t i = 0; i < costs_.pieces.size(); ++i, timed()) {
        const int64_t piece = costs_.pieces[i];
        const double seconds =
            piece == 0 ? time(rows, 0, context) / static_cast<double>(rows) : time(0, piece, context);
        if (context == 0) first.push_back(seconds);
        const double more = std::max(0.0, seconds - first[i]);
        if (piece == 0) costs_.row_more.push_back(more);
        costs_.piece_more.push_back(piece == 0 ? 0 : more);
      }
  }

  // What goes on around the model grows with the texts of a step.
  void add_own() {
    const int64_t some = std::min<int64_t>(s_.parallel, 16);
    const double one = own_seconds(executor_, s_, 1);
    const double each = some > 1 ? (own_seconds(executor_, s_, some) - one) / static_cast<double>(some - 1) : 0;
    const size_t width = costs_.chunks.size();
    for (size_t row = 0; row < costs_.rows.size(); ++row)
      for (size_t chunk = 0; chunk < width; ++chunk)
        if (const int64_t texts = costs_.rows[row] + (chunk > 0); texts > 0)
          costs_.seconds[row * width + chunk] += std::max(0.0, one + each * static_cast<double>(texts - 1));
  }

  // Whoever had nothing to do finds caches that others have used, and has to be woken up.
  void time_after_wait() {
    constexpr double pause = 0.02;
    std::vector<double> seconds;
    for (int64_t i = 0; i < repeat_; ++i) {
      executor_.wait_until(executor_.now() + pause);
      seconds.push_back(step(0, piece_, 0));
    }
    costs_.after_wait = std::max(0.0, median(seconds) - time(0, piece_, 0));
  }

  static std::vector<double> some_of(std::vector<double> all) {
    constexpr size_t most = 100;
    std::ranges::sort(all);
    const size_t count = std::min(most, all.size());
    std::vector<double> some;
    for (size_t i = 0; i < count; ++i) some.push_back(all[(2 * i + 1) * all.size() / (2 * count)]);
    return some;
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

  EngineSettings s_;
  int64_t repeat_, piece_ = 0;
  Executor& executor_;
  State& state_;
  int64_t pages_;
  std::vector<State::Kept> kept_;  // at each context
  Random random_{1, "steps"};
  Sampler sampler_{SamplingSettings(), Random(1, "sampling")};
  std::vector<double> spread_, piece_spread_;  // of all steps
  StepCosts costs_;
};

}  // namespace

StepCosts measure_step_costs(Executor& executor, const EngineSettings& settings, int64_t repeat,
                             const std::function<void(size_t done, size_t all)>& progress) {
  return StepTimer(executor, settings, repeat).run(progress);
}

StepCosts measure_step_costs(const Transformer& model, const EngineSettings& settings, int64_t repeat,
                             const std::function<void(size_t done, size_t all)>& progress) {
  const EngineSettings small = with_small_cache(settings);
  ModelExecutor executor(model, small);
  return measure_step_costs(executor, small, repeat, progress);
}

}  // namespace hone
