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
  Tensor read(std::vector<Span>, const Input&, Phase) override { return {}; }
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
    list_cells();
    const size_t all = (cells_.size() + 1) * static_cast<size_t>(repeat_ + 1);
    size_t done = 0;
    // Cells take turns: what else the machine does for a while hits all of them alike, and few repetitions of each.
    for (int64_t round = 0; round <= repeat_; ++round) {  // the first one is to warm up
      for (Cell& cell : cells_) {
        if (cell.chunk == 0) step(cell);  // most steps without a piece come behind others such, whose memory they find
        const double seconds = step(cell);
        if (round > 0) cell.seconds.push_back(seconds);
        progress(++done, all);
      }
      const double seconds = step_after_wait();
      if (round > 0) after_wait_.push_back(seconds);
      progress(++done, all);
    }
    take_medians();
    extend();
    add_own();
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

  // A kind of step, and what it took each time.
  struct Cell {
    int64_t rows, chunk;
    size_t context = 0;  // its place in the grid
    std::vector<double> seconds = {};
  };

  // Enough texts to tell what one more takes.
  int64_t some_rows() const { return std::min<int64_t>(s_.parallel, 16); }

  const Cell* cell_of(int64_t rows, int64_t chunk, size_t context) const {
    for (const Cell& cell : cells_)
      if (cell.rows == rows && cell.chunk == chunk && cell.context == context) return &cell;
    return nullptr;
  }

  void list_cells() {
    for (const int64_t rows : costs_.rows)
      for (const int64_t chunk : costs_.chunks)
        if (rows + chunk > 0 && chunk <= (rows > 0 ? piece_ : s_.chunk) && rows + (chunk > 0) <= s_.parallel)
          cells_.push_back({rows, chunk});
    for (size_t context = 0; context < costs_.contexts.size(); ++context)
      for (const int64_t piece : costs_.pieces)
        if (const int64_t rows = piece ? 0 : some_rows(); !cell_of(rows, piece, context))
          cells_.push_back({rows, piece, context});
  }

  double median_of(int64_t rows, int64_t chunk, size_t context = 0) const {
    if (rows + chunk == 0) return 0;
    const Cell* const cell = cell_of(rows, chunk, context);
    return cell ? median(cell->seconds) : NAN;
  }

  void take_medians() {
    for (const int64_t rows : costs_.rows)
      for (const int64_t chunk : costs_.chunks) costs_.seconds.push_back(median_of(rows, chunk));
    // What stands before tokens is read for each that is written, and once for a piece, which then computes with it.
    const int64_t rows = some_rows();
    for (size_t context = 0; context < costs_.contexts.size(); ++context) {
      const auto more = [&](int64_t written, int64_t chunk) {
        return std::max(0.0, median_of(written, chunk, context) - median_of(written, chunk));
      };
      costs_.row_more.push_back(more(rows, 0) / static_cast<double>(rows));
      for (const int64_t piece : costs_.pieces) costs_.piece_more.push_back(piece ? more(0, piece) : 0);
    }
    costs_.after_wait = std::max(0.0, median(after_wait_) - median_of(0, piece_));
    for (const bool piece : {false, true}) {
      std::vector<double> factors;
      for (const Cell& cell : cells_)
        if (const double typical = median(cell.seconds); (cell.chunk > 0) == piece && typical > 0)
          for (const double one : cell.seconds) factors.push_back(one / typical);
      (piece ? costs_.piece_spread : costs_.spread) = some_of(std::move(factors));
    }
  }

  // Of a step as the engine takes it: calls, logits and choices.
  double step(const Cell& cell) {
    const int64_t rows = cell.rows, chunk = cell.chunk, before = costs_.contexts[cell.context];
    std::vector<Span> steps, piece;
    for (int64_t slot = 0; slot < rows + (chunk > 0); ++slot) {
      state_.begin(slot, before, executor_.keeps() ? &kept_[cell.context] : nullptr);
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

  // What goes on around the model grows with the texts of a step.
  void add_own() {
    const int64_t some = some_rows();
    const double one = own_seconds(executor_, s_, 1);
    const double each = some > 1 ? (own_seconds(executor_, s_, some) - one) / static_cast<double>(some - 1) : 0;
    const size_t width = costs_.chunks.size();
    for (size_t row = 0; row < costs_.rows.size(); ++row)
      for (size_t chunk = 0; chunk < width; ++chunk)
        if (const int64_t texts = costs_.rows[row] + (chunk > 0); texts > 0)
          costs_.seconds[row * width + chunk] += std::max(0.0, one + each * static_cast<double>(texts - 1));
  }

  // Whoever had nothing to do finds caches that others have used, and has to be woken up.
  double step_after_wait() {
    constexpr double pause = 0.1;
    executor_.wait_until(executor_.now() + pause);
    return step({0, piece_});
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
  std::vector<Cell> cells_;
  std::vector<double> after_wait_;  // what steps behind a pause took
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
