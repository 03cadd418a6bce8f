// Tiny models, random requests and runs of engines on them, compared with texts that are written alone.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "model/depth_routers.h"
#include "serve/engine.h"
#include "serve/prompt.h"
#include "support/repack.h"
#include "support/turns.h"

namespace hone::test {

inline Config tiny(const std::string& attention, int64_t experts = 0,
                   PositionKind positions = positions_named("rotary")) {
  Config c;
  c.context = 448;
  c.block.dim = 32;
  c.block.head_dim = 16;
  c.block.positions = positions;
  LayerBlueprint layer{2, 1, 48, "full"};
  layer.experts = experts;
  layer.top_k = experts ? 2 : 0;
  c.layers.assign(3, layer);
  set_attention(c, attention);
  return c;
}

struct Tiny {
  explicit Tiny(const Config& config, const std::string& form = "") : model(config) {
    initialize(model, 5, 0.15);
    if (form.empty()) return;
    Repack repack(form);
    model.visit(repack);
  }
  Transformer model;
};

// Requests of which many begin alike, as those of a chat do: with one of a few texts, or with all of an earlier prompt.
inline std::vector<Request> random_requests(uint64_t seed, int64_t count, int64_t longest) {
  Random random(seed, "requests");
  const auto text = [&](int64_t length) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < length; ++i) ids.push_back(static_cast<int32_t>(1 + random.below(255)));
    return ids;
  };
  std::vector<std::vector<int32_t>> beginnings = {{}, text(64), text(150), text(200)};
  beginnings.push_back(beginnings[3]);
  beginnings.back().resize(140);
  std::vector<Request> all;
  for (int64_t i = 0; i < count; ++i) {
    Request r;
    r.prompt = beginnings[random.below(beginnings.size())];
    if (i > 0 && random.below(3) == 0)
      if (const auto& earlier = all[random.below(all.size())].prompt; earlier.size() <= 200) r.prompt = earlier;
    for (const int32_t id : text(static_cast<int64_t>(random.below(static_cast<uint64_t>(longest)))))
      r.prompt.push_back(id);
    r.tokens = static_cast<int64_t>(1 + random.below(24) + (random.below(5) ? 0 : 120));  // some need more pages later
    r.sampling.temperature = random.below(2) ? 0 : 0.9;
    if (random.below(3) == 0) r.sampling.top_k = 20;
    if (random.below(3) == 0) r.sampling.repetition_penalty = 1.2;
    r.ignore_end = random.below(4) != 0;
    if (random.below(4) == 0) r.stops = {"a", "\n"};
    r.random = Random(random.next(), "sampling");
    r.logprobs = static_cast<int64_t>(random.below(3));
    r.score_prompt = random.below(8) == 0;
    all.push_back(std::move(r));
  }
  return all;
}

// Three that run out of pages where they have 8 of 64 tokens between them: each begins in two and goes on in a third,
// before the first is done.
inline std::vector<Request> growing_requests(uint64_t seed) {
  Random random(seed, "growing");
  std::vector<Request> all(3);
  for (Request& r : all) {
    for (int i = 0; i < 110; ++i) r.prompt.push_back(static_cast<int32_t>(1 + random.below(255)));
    r.tokens = 40;
    r.ignore_end = true;
    r.random = Random(random.next(), "sampling");
  }
  return all;
}

using Done = std::map<size_t, Completion>;

// All of them through one engine: some are there at once, the first `together` among them, others come between steps,
// and those of `cancelled` go.
inline Done run(const Tiny& t, const EngineSettings& settings, const std::vector<Request>& requests, uint64_t seed,
                const std::vector<size_t>& cancelled = {}, EngineStats* stats = nullptr, size_t together = 1) {
  Engine engine(t.model, *byte_tokenizer(), settings);
  Random random(seed, "arrivals");
  Done done;
  std::map<size_t, int64_t> numbers;
  size_t next = 0;
  for (bool more = true; more || next < requests.size();) {
    while (next < requests.size() && (next < together || next % 3 == 0 || random.below(3) == 0)) {
      Request request = requests[next];
      request.on_done = [&done, next](const Completion& c) { CHECK(done.emplace(next, c).second); };
      numbers[next] = engine.submit(std::move(request));
      ++next;
    }
    for (const size_t i : cancelled)
      if (numbers.contains(i) && random.below(10) == 0) engine.cancel(numbers[i]);
    more = engine.step();
  }
  CHECK(engine.stats().pages_in_use == 0);
  if (stats) *stats = engine.stats();
  return done;
}

inline void check_same(const std::vector<ScoredToken>& a, const std::vector<ScoredToken>& b) {
  REQUIRE(a.size() == b.size());
  bool same = true;
  for (size_t i = 0; i < a.size(); ++i)
    same = same && a[i].token == b[i].token && a[i].logprob == b[i].logprob && a[i].top == b[i].top;
  CHECK(same);
}

// What engines found in their caches: tokens, and how many texts then began within a block of keys.
struct FoundInCache {
  int64_t tokens = 0, within_blocks = 0;
};

// Everything that a request gets, whatever else runs: against generate() and against an engine of one text, in so many
// rounds of other pages and places. The first three are growing_requests().
inline FoundInCache check_alike(const Tiny& t, EngineSettings settings, uint64_t seed,
                                const std::vector<Request>& requests, int64_t rounds) {
  settings.parallel = 1;
  settings.reuse = false;
  const Done alone = run(t, settings, requests, seed);
  REQUIRE(alone.size() == requests.size());
  for (size_t i = 0; i < requests.size(); i += 2) {
    const Request& r = requests[i];
    GenerateSettings g;
    g.tokens = r.tokens;
    g.sampling = r.sampling;
    g.stops = r.stops;
    g.ignore_end = r.ignore_end;
    g.type = settings.type;
    g.code = settings.code;
    g.prefill_chunk = i % 3 ? 512 : 100;
    const Input prompt(r.prompt, r.media ? std::span<const MediaPart>(r.media->parts) : std::span<const MediaPart>());
    const Generated expected = generate(t.model, *byte_tokenizer(), prompt, g, r.random);
    CHECK(alone.at(i).tokens == expected.tokens);
    CHECK(alone.at(i).text == expected.text);
    CHECK(alone.at(i).finish == expected.finish);
  }
  FoundInCache found;
  for (size_t round = 0; round < static_cast<size_t>(rounds); ++round) {
    EngineSettings s = settings;
    s.parallel = std::array{3, 8, 20}[round];
    s.page_rows = std::array{64, 128, 192}[round];
    s.cache_tokens = std::array{512, 768, 1152}[round];
    s.chunk = std::array{64, 256, 512}[round];
    s.busy_chunk = std::array{64, 64, 192}[round];
    s.reuse = true;
    const std::vector<size_t> cancelled = {3, 4, 11};
    EngineStats stats;
    const Done together = run(t, s, requests, seed + round, cancelled, &stats, 3);
    REQUIRE(together.size() == requests.size());
    for (const auto& [i, text] : together) {
      if (text.finish == Finish::interrupted && std::ranges::find(cancelled, i) != cancelled.end()) continue;
      CAPTURE(i);
      const Completion& expected = alone.at(i);
      CHECK(text.tokens == expected.tokens);
      CHECK(text.text == expected.text);
      CHECK(text.finish == expected.finish);
      CHECK(text.prompt_tokens == expected.prompt_tokens);
      check_same(text.scores, expected.scores);
      check_same(text.prompt_scores, expected.prompt_scores);
      found.within_blocks += text.cached_tokens % kernels::attention_block != 0;
    }
    if (round == 0) CHECK(stats.preemptions > 0);
    found.tokens += stats.cached_tokens;
  }
  return found;
}

// Of `count` random requests and those that run out of pages. Returns FoundInCache::within_blocks.
inline int64_t check_alike(const Tiny& t, const EngineSettings& settings, uint64_t seed, int64_t count,
                           int64_t rounds = 3) {
  std::vector<Request> requests = growing_requests(seed);
  for (Request& r : random_requests(seed, count, 60)) requests.push_back(std::move(r));
  const FoundInCache found = check_alike(t, settings, seed, requests, rounds);
  CHECK(found.tokens > 0);
  return found.within_blocks;
}

inline EngineSettings of_type(DType type, kernels::CacheCode code = kernels::CacheCode::none) {
  EngineSettings s;
  s.type = type;
  s.code = code;
  return s;
}

}  // namespace hone::test
