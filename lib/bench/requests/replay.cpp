#include "bench/requests/replay.h"

#include <algorithm>

#include "base/error.h"
#include "base/random.h"
#include "base/stop.h"

namespace hone {
namespace {

class Replay {
 public:
  Replay(Engine& engine, const Config& config, const std::vector<Arrival>& arrivals, const ReplaySettings& settings)
      : engine_(engine), config_(config), arrivals_(arrivals), s_(settings) {}

  Replayed run() {
    start_ = engine_.now();
    for (size_t next = 0;;) {
      for (; next < arrivals_.size() && time_of(arrivals_[next]) <= engine_.now(); ++next) submit(arrivals_[next]);
      if (engine_.idle()) {
        if (next == arrivals_.size()) break;
        engine_.wait_until(time_of(arrivals_[next]));
        check_stop();
        continue;
      }
      step();
    }
    r_.seconds = engine_.now() - start_;
    r_.stats = engine_.stats();
    return std::move(r_);
  }

 private:
  double time_of(const Arrival& arrival) const { return start_ + arrival.seconds / s_.speed; }

  void submit(const Arrival& arrival) {
    struct Times {
      double came, first = 0, last = 0;
      int64_t tokens = 0;
    };
    Request request;
    request.tokens = arrival.tokens;
    request.ignore_end = true;  // a text is as long as the trace says
    request.random = Random(s_.seed + static_cast<uint64_t>(arrival.number), "sampling");
    auto times = std::make_shared<Times>(Times{.came = time_of(arrival)});
    request.on_token = [this, times] {
      const double now = engine_.now();
      ++r_.written;
      if (times->tokens++ == 0)
        times->first = now;
      else
        r_.gaps.push_back(now - times->last);
      times->last = now;
    };
    const double late = engine_.now() - times->came;  // it came within a step
    request.on_done = [this, times, late](const Completion& text) {
      ++ended_;
      if (text.finish == Finish::failed) {
        ++r_.failed;
        return;
      }
      ServedRequest served{.began = late + text.queue_seconds,
                           .first_token = times->first - times->came,
                           .done = times->last - times->came};
      if (times->tokens > 1) served.between = (times->last - times->first) / static_cast<double>(times->tokens - 1);
      const Slo& o = s_.objective;
      r_.met += served.first_token <= o.first_token && served.between <= o.token && served.done <= o.request;
      r_.served.push_back(served);
    };
    // Before its tokens are made: a trace's longest may be very long.
    if (arrival.prompt + arrival.tokens - 1 > engine_.settings().capacity) {
      r_.too_long.push_back(arrival.number);
      return;
    }
    request.prompt = prompt_of(arrival, s_.divide, config_.vocabulary, s_.seed);
    try {
      engine_.submit(std::move(request));
      r_.prompt_tokens += arrival.prompt;
    } catch (const Error&) {  // or a cache that it does not fit
      r_.too_long.push_back(arrival.number);
    }
  }

  void step() {
    const double before = engine_.now();
    const int64_t ended = ended_;
    engine_.step();
    const EngineStats stats = engine_.stats();
    const double now = engine_.now();
    r_.samples.push_back({.seconds = now - start_,
                          .length = now - before,
                          .waiting = stats.waiting,
                          .running = stats.running + ended_ - ended,
                          .pages = stats.pages_in_use,
                          .page_tokens = stats.page_tokens});
    if (s_.progress) s_.progress(r_.served.size() + r_.too_long.size(), stats);
    check_stop();
  }

  Engine& engine_;
  const Config& config_;
  const std::vector<Arrival>& arrivals_;
  const ReplaySettings& s_;
  double start_ = 0;
  int64_t ended_ = 0;
  Replayed r_;
};

}  // namespace

void warm_up(Executor& executor, const EngineSettings& settings) {
  State& state = executor.state();
  const int64_t pages = settings.cache_tokens / settings.page_rows;
  const int64_t longest = std::min({settings.chunk, settings.capacity, pages * settings.page_rows});
  for (int64_t i = 0; i * settings.page_rows < longest; ++i) state.table().at(0, i) = static_cast<int32_t>(i);
  const auto read = [&](int64_t count, Phase phase) {
    state.begin(0, 0, nullptr);
    const Tensor hidden =
        executor.read({{0, 0, count, phase}}, std::vector<int32_t>(static_cast<size_t>(count), 1), phase);
    executor.logits(hidden.rows(0, 1), Phase::step);
  };
  read(1, Phase::step);
  // A block of memory serves arrays that it is up to an eighth larger than, too (large ones yet smaller arrays). From
  // small to large, so that no array finds a larger one.
  for (int64_t next = 1, count = 0; count < longest; next = count + 1 + (count + 1) / 8) {
    check_stop();
    count = std::min(next, longest);
    read(count, Phase::prompt);
  }
  for (int64_t page = 1; page < pages; ++page) state.copy_page(0, static_cast<int32_t>(page), settings.page_rows);
  state.begin(0, 0, nullptr);
}

Replayed replay(Engine& engine, const Config& config, const std::vector<Arrival>& arrivals,
                const ReplaySettings& settings) {
  return Replay(engine, config, arrivals, settings).run();
}

}  // namespace hone
