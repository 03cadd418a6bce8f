// Texts that nobody wants any more, while pages are short.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "lib/serve/engine_runs.h"

using namespace hone;
using namespace hone::test;

namespace {

// A crowd that never has pages enough, of which some go while they wait for pages to be had again, or read again what
// they had: those that had tokens and got none in a step. In three ways: by their numbers, because nobody wants them any
// more, and because their reader takes nothing more.
class Crowd {
 public:
  Crowd(const Tiny& t, const EngineSettings& settings, std::vector<Request> requests, uint64_t seed)
      : engine_(t.model, *byte_tokenizer(), settings), random_(seed, "leaving"), requests_(std::move(requests)) {}

  Done run() {
    for (size_t next = 0; next < requests_.size() || !engine_.idle();) {
      for (; next < requests_.size() && (next < 4 || random_.below(4) == 0); ++next) submit(next);
      std::map<size_t, int64_t> before;
      for (const auto& [i, text] : texts_) before[i] = text.tokens;
      engine_.step();
      for (auto& [i, text] : texts_)
        if (!text.ended && text.tokens > 0 && before.contains(i) && before[i] == text.tokens && random_.below(4) == 0)
          leave(i, text);
    }
    return std::move(done_);
  }

  const std::set<size_t>& left() const { return left_; }
  EngineStats stats() const { return engine_.stats(); }

 private:
  struct Text {
    int64_t number = 0, tokens = 0;
    bool ended = false, wanted = true, read = true;
  };

  void submit(size_t i) {
    Text& text = texts_[i];
    Request r = requests_[i];
    r.on_token = [&text] { ++text.tokens; };
    r.wanted = [&text] { return text.wanted; };
    r.on_text = [&text](std::string_view, const std::vector<ScoredToken>&) { return text.read; };
    r.on_done = [this, &text, i](const Completion& c) {
      CHECK_FALSE(std::exchange(text.ended, true));
      CHECK(done_.emplace(i, c).second);
    };
    text.number = engine_.submit(std::move(r));
  }

  void leave(size_t i, Text& text) {
    switch (left_.size() % 3) {
      case 0:
        engine_.cancel(text.number);
        break;
      case 1:
        text.wanted = false;
        break;
      default:
        text.read = false;
    }
    left_.insert(i);
  }

  Engine engine_;
  Random random_;
  std::vector<Request> requests_;
  std::map<size_t, Text> texts_;
  std::set<size_t> left_;
  Done done_;
};

bool begins(const std::vector<int32_t>& text, const std::vector<int32_t>& with) {
  return with.size() <= text.size() && std::equal(with.begin(), with.end(), text.begin());
}

}  // namespace

TEST_CASE("who goes while its pages are others' gives back what it has, and changes no other text") {
  for (const char* kind : {"full", "window:40", "full,routed:64:2"}) {
    CAPTURE(kind);
    const Tiny t(tiny(kind));
    for (uint64_t seed = 1; seed <= static_cast<uint64_t>(rounds_of(4, 1)); ++seed) {
      CAPTURE(seed);
      std::vector<Request> requests = random_requests(seed, 14, 60);
      for (Request& r : growing_requests(seed)) requests.insert(requests.begin(), std::move(r));
      for (Request& r : requests) r.stops.clear();  // pieces of text come with their tokens
      EngineSettings s = of_type(DType::f32);
      s.parallel = 1;
      s.reuse = false;
      const Done alone = hone::test::run(t, s, requests, seed);
      s.parallel = 8;
      s.cache_tokens = 512;
      s.busy_chunk = 64;
      s.reuse = seed % 2;
      Crowd crowd(t, s, requests, seed);
      const Done together = crowd.run();
      REQUIRE(together.size() == requests.size());
      int64_t interrupted = 0;
      for (const auto& [i, text] : together) {
        CAPTURE(i);
        const Completion& expected = alone.at(i);
        if (text.finish == Finish::interrupted) {
          CHECK(crowd.left().contains(i));
          CHECK(begins(expected.tokens, text.tokens));
          ++interrupted;
          continue;
        }
        CHECK(text.tokens == expected.tokens);
        CHECK(text.finish == expected.finish);
        check_same(text.scores, expected.scores);
        check_same(text.prompt_scores, expected.prompt_scores);
      }
      const EngineStats stats = crowd.stats();
      CHECK(stats.preemptions > 0);
      CHECK(interrupted > 0);
      CHECK(stats.cancelled == interrupted);
      CHECK(stats.finished + stats.cancelled == stats.requests);
      CHECK(stats.pages_in_use == 0);
      CHECK(stats.page_tokens == 0);
      if (!s.reuse) CHECK(stats.pages_free == stats.pages);
    }
  }
}
