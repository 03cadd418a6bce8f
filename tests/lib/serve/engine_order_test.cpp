// Who is served when: order, batching, places and pages.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <utility>

#include "base/error.h"
#include "lib/serve/engine_runs.h"

using namespace hone;
using namespace hone::test;

TEST_CASE("who came first is served first, and nobody waits for ever") {
  const Tiny t(tiny("full"));
  EngineSettings s = of_type(DType::f32);
  s.parallel = 4;
  s.cache_tokens = 320;
  Engine engine(t.model, *byte_tokenizer(), s);
  std::vector<int> order;
  for (int i = 0; i < 12; ++i) {
    Request r;
    r.prompt.assign(static_cast<size_t>(40 + i), 3);
    r.tokens = 60;
    r.ignore_end = true;
    r.on_done = [&order, i](const Completion& c) {
      CHECK(c.tokens.size() == 60);
      order.push_back(i);
    };
    engine.submit(std::move(r));
  }
  while (engine.step()) {
  }
  CHECK(engine.stats().preemptions > 0);
  CHECK(std::ranges::is_sorted(order));
  CHECK(order.size() == 12);
}

TEST_CASE("requests that can never run are refused, and the others go on") {
  const Tiny t(tiny("full"));
  EngineSettings s = of_type(DType::f32);
  s.parallel = 2;
  s.cache_tokens = 128;
  Engine engine(t.model, *byte_tokenizer(), s);
  Request good;
  good.prompt.assign(10, 3);
  good.tokens = 5;
  int done = 0;
  good.on_done = [&](const Completion&) { ++done; };
  engine.submit(good);
  Request bad = good;
  bad.prompt.assign(500, 3);  // beyond the context
  CHECK_THROWS_AS(engine.submit(bad), Error);
  bad.prompt.assign(200, 3);  // beyond the cache
  CHECK_THROWS_AS(engine.submit(bad), Error);
  bad = good;
  bad.prompt[0] = 5000;
  CHECK_THROWS_AS(engine.submit(bad), Error);
  bad = good;
  bad.tokens = -1;
  CHECK_THROWS_AS(engine.submit(bad), Error);
  bad = good;
  bad.sampling.temperature = -1;
  CHECK_THROWS_AS(engine.submit(bad), Error);
  bad = good;
  bad.tokens = 0;  // nothing to do
  engine.submit(bad);
  CHECK(done == 1);
  while (engine.step()) {
  }
  CHECK(done == 2);
  s.page_rows = 100;
  CHECK_THROWS_AS(Engine(t.model, *byte_tokenizer(), s), Error);
}

TEST_CASE("pages are counted, and the longest unused ones go first") {
  Pages pages(4, 64);
  const std::vector<int32_t> a(64, 1), b(64, 2), c(64, 3);
  int32_t first = *pages.take(), second = *pages.take(), third = *pages.take();
  const int32_t node = pages.insert(Pages::root, a, first);
  pages.insert(node, b, second);
  pages.insert(node, c, third);
  for (const int32_t page : {first, second, third}) pages.release(page);
  CHECK(pages.in_use() == 0);
  CHECK(pages.free() == 1);
  CHECK(pages.available() == 4);
  std::vector<int32_t> text = a;
  text.insert(text.end(), b.begin(), b.end());
  const Pages::Hit hit = pages.find(text, 128, false);
  CHECK(hit.pages == std::vector<int32_t>{first, second});
  CHECK(pages.available() == 2);
  CHECK(pages.take().has_value());
  CHECK(*pages.take() == third);  // nobody has it, and it is a leaf
  CHECK_FALSE(pages.take().has_value());
  int32_t again = first;
  CHECK(pages.insert(Pages::root, a, again) == node);
  for (const int32_t page : hit.pages) pages.release(page);
  CHECK_THROWS_AS((pages.release(third), pages.release(third)), Error);
}

TEST_CASE("ends of prompts are pages in part, for the longest beginning that somebody shares") {
  Pages pages(5, 64);
  const auto text = [](int64_t ones, int64_t twos, int64_t threes) {
    std::vector<int32_t> ids(static_cast<size_t>(ones), 1);
    ids.insert(ids.end(), static_cast<size_t>(twos), 2);
    ids.insert(ids.end(), static_cast<size_t>(threes), 3);
    return ids;
  };
  int32_t first = *pages.take();
  const int32_t part = *pages.take(), other = *pages.take();
  const int32_t node = pages.insert(Pages::root, text(64, 0, 0), first);
  pages.insert_part(node, text(16, 16, 0), part);
  pages.insert_part(node, text(16, 0, 32), other);
  for (const int32_t page : {first, part, other}) pages.release(page);
  CHECK(pages.in_use() == 0);
  const auto find = [&](const std::vector<int32_t>& ids, int64_t most) {
    const Pages::Hit hit = pages.find(ids, most, false);
    for (const int32_t page : hit.pages) pages.release(page);
    if (hit.partial >= 0) pages.release(hit.partial);
    CHECK(hit.tokens == 64 * static_cast<int64_t>(hit.pages.size()) + hit.partial_rows);
    return std::pair(hit.partial, hit.tokens);
  };
  CHECK(find(text(80, 20, 5), 96) == std::pair(part, int64_t{96}));
  CHECK(find(text(80, 9, 5), 80).second == 80);  // equal to either
  CHECK(find(text(80, 0, 31), 96) == std::pair(other, int64_t{96}));
  CHECK(find(text(75, 0, 30), 96) == std::pair(-1, int64_t{64}));    // 11 tokens are less than what is read alike
  CHECK(find(text(64, 0, 0), 48) == std::pair(first, int64_t{48}));  // of a whole page: the last token is read
  CHECK(find(text(0, 64, 0), 48) == std::pair(-1, int64_t{0}));
  // What has all of a part's tokens and more takes its place, and one that has less is none.
  const int32_t longer = *pages.take(), less = *pages.take();
  pages.insert_part(node, text(16, 32, 0), longer);
  CHECK(pages.free() == 1);
  pages.insert_part(node, text(16, 16, 0), less);
  pages.release(less);
  CHECK(pages.free() == 2);
  CHECK(find(text(80, 40, 0), 112) == std::pair(longer, int64_t{112}));
  CHECK(pages.in_use() == 1);  // who wrote it still does
  int32_t full = *pages.take();
  CHECK(pages.insert(node, text(16, 48, 0), full) != node);
  pages.release(longer);
  pages.release(full);
  CHECK(pages.free() == 2);
  CHECK(pages.available() == 5);
  CHECK(find(text(80, 48, 9), 128) == std::pair(-1, int64_t{128}));
}

TEST_CASE("a page in part goes when pages are needed, and not while who wrote it still does") {
  Pages pages(2, 64);
  const std::vector<int32_t> ids(32, 1);
  const int32_t part = *pages.take(), other = *pages.take();
  pages.insert_part(Pages::root, std::span(ids).first(16), part);
  CHECK(pages.available() == 0);
  CHECK(!pages.take());
  pages.release(part);
  CHECK(pages.free() == 0);
  CHECK(pages.available() == 1);
  CHECK(pages.take().value_or(-1) == part);
  CHECK(pages.available() == 0);
  CHECK(pages.find(ids, 16, false).tokens == 0);
  pages.release(part);
  pages.release(other);
  CHECK(pages.free() == 2);
}

TEST_CASE("pieces of a prompt end with blocks, wherever the first begins, and the last with the prompt") {
  const Tiny t(tiny("full"));
  EngineSettings s = of_type(DType::f32);
  s.chunk = s.busy_chunk = 64;
  Engine engine(t.model, *byte_tokenizer(), s);
  const auto steps = [&](size_t sevens, size_t nines) {
    Request r;
    r.prompt.assign(sevens, 7);
    r.prompt.insert(r.prompt.end(), nines, 9);
    r.tokens = 1;
    const int64_t before = engine.stats().steps;
    engine.submit(std::move(r));
    while (engine.step()) {
    }
    return engine.stats().steps - before;
  };
  CHECK(steps(48, 0) == 1);
  CHECK(steps(112, 0) == 1);   // 64 tokens behind the 48
  CHECK(steps(48, 100) == 3);  // to 64, to 128, and the rest
}

TEST_CASE("a way of batching changes who is served when, and no text") {
  const Tiny t(tiny("full"));
  const std::vector<Request> requests = random_requests(31, 20, 60);
  EngineSettings s = of_type(DType::f32);
  s.parallel = 5;
  s.cache_tokens = 768;
  EngineStats together;
  const Done expected = run(t, s, requests, 1, {}, &together);
  CHECK(s.batching.name() == "continuous");
  int64_t steps = 0;
  for (const char* name : {"static:4", "static:2", "none"}) {
    CAPTURE(name);
    s.batching = batching_named(name);
    EngineStats stats;
    const Done done = run(t, s, requests, 1, {}, &stats);
    REQUIRE(done.size() == expected.size());
    for (const auto& [i, text] : done) {
      CHECK(text.tokens == expected.at(i).tokens);
      check_same(text.scores, expected.at(i).scores);
    }
    CHECK(stats.steps > std::max(steps, together.steps));  // fewer at once
    steps = stats.steps;
  }
  for (const char* bad : {"static", "static:0", "static:x", "none:2", "continuous:1", "dynamic", ""}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(batching_named(bad), Error);
  }
  CHECK_THROWS_WITH(batching_named("continous"), doctest::Contains("did you mean 'continuous'"));
}

TEST_CASE("an order of service changes who is done first, and no text") {
  const Tiny t(tiny("full"));
  EngineSettings s = of_type(DType::f32);
  s.parallel = 3;
  s.cache_tokens = 576;  // which does not hold three of the longest
  const std::vector<Request> requests = random_requests(37, 20, 60);
  const Done expected = run(t, s, requests, 1);
  for (const ServiceOrder& order : service_orders()) {
    CAPTURE(order.name);
    s.order = &order;
    const Done done = run(t, s, requests, 1);
    REQUIRE(done.size() == expected.size());
    for (const auto& [i, text] : done) {
      CHECK(text.tokens == expected.at(i).tokens);
      check_same(text.scores, expected.at(i).scores);
    }
  }
  // All there at once, two at a time, with prompts alike and lengths that are drawn.
  s.parallel = 2;
  s.cache_tokens = 0;
  for (const auto& [name, rising] : std::map<std::string, int>{{"fifo", 0}, {"shortest", 1}, {"longest", -1}}) {
    CAPTURE(name);
    s.order = &service_order(name);
    Engine engine(t.model, *byte_tokenizer(), s);
    std::vector<int64_t> began;
    for (int64_t i = 0; i < 9; ++i) {
      Request r;
      r.prompt = {3, 4, 5};
      r.tokens = 5 + i * 7 % 9 * 10;
      r.ignore_end = true;
      r.on_token = [&began, length = r.tokens, first = true]() mutable {
        if (std::exchange(first, false)) began.push_back(length);
      };
      engine.submit(std::move(r));
    }
    while (engine.step()) {
    }
    REQUIRE(began.size() == 9);
    CHECK(std::ranges::is_sorted(began) == (rising > 0));
    CHECK(std::ranges::is_sorted(began, std::greater()) == (rising < 0));
  }
  CHECK_THROWS_WITH(service_order("shortes"), doctest::Contains("did you mean 'shortest'"));
}

TEST_CASE("tokens in pages are counted once, whoever shares them") {
  const Tiny t(tiny("full"));
  EngineSettings s = of_type(DType::f32);
  Engine engine(t.model, *byte_tokenizer(), s);
  Request r;
  r.prompt.assign(150, 7);
  r.tokens = 40;
  r.ignore_end = true;
  engine.submit(r);
  engine.submit(r);
  int64_t most = 0;
  while (engine.step()) {
    const EngineStats stats = engine.stats();
    CHECK(stats.page_tokens <= stats.pages_in_use * 64);
    CHECK(stats.page_tokens > (stats.pages_in_use - 2) * 64);
    most = std::max(most, stats.page_tokens);
  }
  CHECK(most > 2 * 150 - 128);
  CHECK(most <= 2 * 190 - 128);  // two pages of the prompt are both's
  const EngineStats end = engine.stats();
  CHECK(end.page_tokens == 0);
  CHECK(end.choice_seconds > 0);
  CHECK(end.choice_seconds < end.own_seconds);
}