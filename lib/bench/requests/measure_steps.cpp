// Times of steps, through what the engine itself calls.
#include <algorithm>
#include <cmath>
#include <map>
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
    size_t kinds = 0, done = 0;
    for (const CostTable* table : {&costs_.behind[0].write, &costs_.behind[1].write, &costs_.behind[0].piece,
                                   &costs_.piece_more, &costs_.after_wait})
      kinds += table->seconds.size();
    const size_t all = kinds * static_cast<size_t>(repeat_ + 1);
    // Kinds of steps take turns: what else the machine does for a while hits all of them alike, and few repetitions of
    // each.
    for (int64_t round = 0; round <= repeat_; ++round) {
      time_round([&] { progress(++done, all); });
      if (round > 0) continue;
      times_.clear();  // it was to warm up
      more_.clear();
      after_wait_.clear();
    }
    take_medians();
    add_own();
    return std::move(costs_);
  }

 private:
  // A kind of step: so many texts with a token more and so much before each, and a piece and what stands before it.
  struct Kind {
    int64_t rows = 0, context = 0, chunk = 0, first = 0;
    bool behind_piece = false;
    auto operator<=>(const Kind&) const = default;
  };

  void make_grid() {
    const int64_t longest = std::min(s_.chunk, s_.capacity);
    piece_ = std::min(s_.busy_chunk, s_.capacity);
    std::vector<int64_t> rows, beside = {0}, joined;
    for (const int64_t count : {1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096})
      if (count < s_.parallel) rows.push_back(count);
    rows.push_back(s_.parallel);
    // Few, as each takes pieces of every size.
    for (int64_t count = 1; count < s_.parallel - 1; count *= 4) beside.push_back(count);
    if (s_.parallel > 1) beside.push_back(s_.parallel - 1);
    for (const int64_t count : beside) joined.push_back(count + 1);
    std::set<int64_t> chunks = {1, piece_, longest};
    // In the middle of tiles of 16 rows: what is measured at their ends is less than most pieces take.
    for (int64_t chunk = tile; chunk < longest; chunk *= 2)
      for (const int64_t size : {chunk, chunk * 3 / 2 / tile * tile})
        if (size + tile / 2 < longest) chunks.insert(size + tile / 2);
    // Room for a piece and a token behind the last.
    const int64_t last = std::max<int64_t>(0, s_.capacity - s_.busy_chunk) / block * block;
    std::vector<int64_t> some;
    contexts_ = {0};
    for (int64_t context = block; context < last; context *= 2) contexts_.push_back(context);
    if (last > 0) contexts_.push_back(last);
    for (size_t i = 0; i < contexts_.size(); ++i)
      if (i % 2 == 0 || i + 1 == contexts_.size()) some.push_back(contexts_[i]);
    const std::set<int64_t> pieces = {1, *chunks.lower_bound(std::min(block, piece_)), piece_};
    const auto table = [](CostTable& of, const std::vector<int64_t>& down, const auto& across) {
      of.down = down;
      of.across.assign(across.begin(), across.end());
      of.seconds.assign(of.down.size() * of.across.size(), 0);
    };
    table(costs_.behind[0].write, rows, contexts_);
    table(costs_.behind[1].write, joined, some);
    for (StepCosts::Steps& steps : costs_.behind) table(steps.piece, beside, chunks);
    table(costs_.piece_more, contexts_, pieces);
    table(costs_.after_wait, {0}, pieces);
  }

  // Real keys and values in all pages, so that none of them is an empty page of the system's, and none is shared.
  void fill() {
    for (int64_t slot = 0; slot < s_.parallel; ++slot)
      for (int64_t page = 0; page < state_.table().per_sequence; ++page)
        state_.table().at(slot, page) = static_cast<int32_t>((slot * state_.table().per_sequence + page) % pages_);
    state_.begin(0, 0, nullptr);
    kept_.push_back(state_.keep(0));
    for (size_t i = 1; i < contexts_.size(); ++i) {
      for (int64_t first = contexts_[i - 1]; first < contexts_[i];) {
        const int64_t count = std::min(s_.chunk, contexts_[i] - first);
        executor_.read({{0, first, count, Phase::prompt}}, ids(count), Phase::prompt);
        first += count;
      }
      kept_.push_back(state_.keep(0));
    }
    const int64_t full = std::max<int64_t>(1, contexts_.back() / s_.page_rows);
    for (int64_t page = full; page < pages_; ++page)
      state_.copy_page(static_cast<int32_t>(page % full), static_cast<int32_t>(page), s_.page_rows);
  }

  std::vector<int32_t> ids(int64_t count) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < count; ++i)
      ids.push_back(static_cast<int32_t>(1 + random_.below(static_cast<uint64_t>(executor_.config().vocabulary - 1))));
    return ids;
  }

  // Steps one after the other as an engine would take them, each timed behind what it is to be timed behind.
  void time_round(const std::function<void()>& progress) {
    const auto& [plain, taken] = costs_.behind;
    for (const int64_t rows : plain.write.down)
      for (const int64_t context : plain.write.across) {
        const Kind kind{.rows = rows, .context = context};
        step(kind);  // whose memory the others find: a text's stays in the caches from step to step, many texts' do not
        for (int i = 0; i < 2; ++i) time(kind);
        progress();
      }
    // Behind a piece, beside which all but its own text were written: what stands before them was just read, too.
    for (const int64_t rows : taken.write.down)
      for (const int64_t context : taken.write.across) {
        const Kind kind{.rows = rows, .context = context, .behind_piece = true};
        step(kind);
        step({.rows = rows - 1, .context = context, .chunk = std::min(block, piece_)});
        time(kind);
        progress();
      }
    for (const int64_t beside : plain.piece.down) {
      for (const int64_t chunk : plain.piece.across) {
        if (allowed(beside, chunk)) {
          step({.rows = std::max<int64_t>(1, beside)});
          for (const bool behind : {false, true}) time({.rows = beside, .chunk = chunk, .behind_piece = behind});
        }
        progress();
      }
    }
    for (const int64_t chunk : costs_.piece_more.across)
      for (const int64_t first : costs_.piece_more.down) {
        more_[{.chunk = chunk, .first = first}].push_back(step({.chunk = chunk, .first = first}));
        progress();
      }
    // Whoever had nothing to do finds caches that others have used, and has to be woken up.
    constexpr double pause = 0.1;
    for (const int64_t chunk : costs_.after_wait.across) {
      executor_.wait_until(executor_.now() + pause);
      after_wait_[{.chunk = chunk}].push_back(step({.chunk = chunk}));
      progress();
    }
  }

  void time(const Kind& kind) { times_[kind].push_back(step(kind)); }

  bool allowed(int64_t beside, int64_t chunk) const { return chunk <= (beside > 0 ? piece_ : s_.chunk); }

  void take_medians() {
    for (const bool behind : {false, true}) {
      StepCosts::Steps& steps = costs_.behind[behind];
      fill_table(steps.write, [&](int64_t rows, int64_t context) {
        return median(times_.at({.rows = rows, .context = context, .behind_piece = behind}));
      });
      fill_table(steps.piece, [&](int64_t rows, int64_t chunk) {
        return allowed(rows, chunk) ? median(times_.at({.rows = rows, .chunk = chunk, .behind_piece = behind})) : NAN;
      });
      extend(steps.piece);
    }
    // What stands before a piece is read once for it, and then computed with.
    fill_table(costs_.piece_more, [&](int64_t first, int64_t chunk) {
      return std::max(0.0, median(more_.at({.chunk = chunk, .first = first})) - median(more_.at({.chunk = chunk})));
    });
    fill_table(costs_.after_wait, [&](int64_t, int64_t chunk) {
      return std::max(0.0, median(after_wait_.at({.chunk = chunk})) - costs_.behind[0].piece(0, chunk));
    });
    for (const bool piece : {false, true}) {
      std::vector<double> factors;
      for (const auto& [kind, seconds] : times_)
        if (const double typical = median(seconds); (kind.chunk > 0) == piece && typical > 0)
          for (const double one : seconds) factors.push_back(one / typical);
      (piece ? costs_.piece_spread : costs_.spread) = some_of(std::move(factors));
    }
  }

  static void fill_table(CostTable& table, const std::function<double(int64_t, int64_t)>& seconds) {
    for (size_t row = 0; row < table.down.size(); ++row)
      for (size_t column = 0; column < table.across.size(); ++column)
        table.at(row, column) = seconds(table.down[row], table.across[column]);
  }

  // Of a step as the engine takes it: calls, logits and choices.
  double step(const Kind& kind) {
    const int64_t texts = kind.rows + (kind.chunk > 0);
    std::vector<Span> steps, piece;
    for (int64_t slot = 0; slot < texts; ++slot) {
      const int64_t before = slot < kind.rows ? kind.context : kind.first;
      state_.begin(slot, before, executor_.keeps() ? &kept_[place_in_contexts(before)] : nullptr);
      if (slot < kind.rows)
        steps.push_back({slot, before, 1, Phase::step});
      else
        piece.push_back({slot, before, kind.chunk, Phase::prompt});
    }
    const std::vector<int32_t> step_ids = ids(kind.rows), piece_ids = ids(kind.chunk);
    const double begin = executor_.now();
    Tensor hidden;
    if (!piece.empty() && !steps.empty() && executor_.mixes()) {
      std::vector<int32_t> all = step_ids;
      all.insert(all.end(), piece_ids.begin(), piece_ids.end());
      steps.insert(steps.end(), piece.begin(), piece.end());
      hidden = executor_.read(steps, all, Phase::prompt);
    } else {
      if (!steps.empty()) hidden = executor_.read(steps, step_ids, Phase::step);
      if (!piece.empty()) {
        const Tensor of_piece = executor_.read(piece, piece_ids, Phase::prompt);
        if (kind.chunk > kind.rows) hidden = of_piece;  // whose rows are enough to choose tokens by
      }
    }
    // The last piece of a prompt has a token chosen behind it; most pieces are the last.
    const int64_t chosen = std::min(hidden.dim(0), texts);
    const Tensor logits = executor_.logits(hidden.rows(0, chosen), Phase::step);
    for (int64_t row = 0; row < chosen; ++row) sampler_.next(logits.rows(row, 1).span<float>(), {}, -1);
    return executor_.now() - begin;
  }

  size_t place_in_contexts(int64_t before) const {
    return static_cast<size_t>(std::ranges::find(contexts_, before) - contexts_.begin());
  }

  // What goes on around the model grows with the texts of a step.
  void add_own() {
    const int64_t some = std::min<int64_t>(s_.parallel, 16);
    const double one = own_seconds(executor_, s_, 1);
    const double each = some > 1 ? (own_seconds(executor_, s_, some) - one) / static_cast<double>(some - 1) : 0;
    const auto add = [&](CostTable& table, int64_t more) {
      for (size_t row = 0; row < table.down.size(); ++row)
        for (size_t column = 0; column < table.across.size(); ++column)
          table.at(row, column) += std::max(0.0, one + each * static_cast<double>(table.down[row] + more - 1));
    };
    for (StepCosts::Steps& steps : costs_.behind) {
      add(steps.write, 0);
      add(steps.piece, 1);
    }
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
  static void extend(CostTable& piece) {
    for (size_t row = 1; row < piece.down.size(); ++row)
      for (size_t chunk = 1; chunk < piece.across.size(); ++chunk)
        if (double& at = piece.at(row, chunk); std::isnan(at))
          at = piece.at(row, chunk - 1) + std::max(0.0, piece.at(0, chunk) - piece.at(0, chunk - 1));
  }

  EngineSettings s_;
  int64_t repeat_, piece_ = 0;
  Executor& executor_;
  State& state_;
  int64_t pages_;
  std::vector<int64_t> contexts_;
  std::vector<State::Kept> kept_;  // at each context
  Random random_{1, "steps"};
  Sampler sampler_{SamplingSettings(), Random(1, "sampling")};
  // What steps took; pieces one behind the other; and pieces behind a pause.
  std::map<Kind, std::vector<double>> times_, more_, after_wait_;
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
