#include "serve/engine.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "model/depth_routers.h"
#include "nn/mixer.h"
#include "weights/packed_weight.h"

using namespace hone;

namespace {

Config tiny(const std::string& attention, int64_t experts = 0, PositionKind positions = PositionKind::rotary) {
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

// Every matrix in another form.
struct Repack : Visitor {
  explicit Repack(std::string to) : form(std::move(to)) {}
  void weight(const ParameterInfo&, std::shared_ptr<Weight>& weight) override {
    const Tensor dense = weight->to_dense();
    const int64_t rows = dense.dim(0), cols = dense.dim(1);
    Bitmask mask;
    if (form.ends_with("sparse")) {
      mask = Bitmask::zeros(rows, cols);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < cols; ++c)
          if ((r * 7 + c * 5) % 10 < 4) mask.set(r, c);
    }
    if (form.starts_with("bf16")) {
      weight = pack_bf16(dense, mask);
      return;
    }
    QuantizedMatrix q{rows,
                      cols,
                      32,
                      *kernels::find_element(form.starts_with("int4") ? "int4" : "int8"),
                      Tensor::zeros({rows, cols}, DType::i8),
                      Tensor::zeros({rows, group_count(cols, 32)}),
                      mask};
    const float most = form.starts_with("int4") ? 7 : 127;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) {
        float& scale = q.scales.data<float>()[r * group_count(cols, 32) + c / 32];
        if (c % 32 == 0) {
          for (int64_t i = c; i < std::min(c + 32, cols); ++i)
            scale = std::max(scale, std::abs(dense.data<float>()[r * cols + i]) / most);
          scale = to_float(to_bf16(scale * 1.01f));
        }
        if (!mask || mask.at(r, c))
          q.integers.data<int8_t>()[r * cols + c] =
              static_cast<int8_t>(std::lround(dense.data<float>()[r * cols + c] / scale));
      }
    weight = pack_integers(q);
  }
  void parameter(const ParameterInfo&, Parameter&) override {}
  std::string form;
};

struct Tiny {
  explicit Tiny(const Config& config, const std::string& form = "") : model(config) {
    initialize(model, 5, 0.15);
    if (form.empty()) return;
    Repack repack(form);
    model.visit(repack);
  }
  Transformer model;
};

// Requests of which many begin alike, as those of a chat do.
std::vector<Request> random_requests(uint64_t seed, int64_t count, int64_t longest) {
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

using Done = std::map<size_t, Completion>;

// All of them through one engine: some are there at once, others come between steps, and those of `cancelled` go.
Done run(const Tiny& t, const EngineSettings& settings, const std::vector<Request>& requests, uint64_t seed,
         const std::vector<size_t>& cancelled = {}, EngineStats* stats = nullptr) {
  Engine engine(t.model, *byte_tokenizer(), settings);
  Random random(seed, "arrivals");
  Done done;
  std::map<size_t, int64_t> numbers;
  size_t next = 0;
  for (bool more = true; more || next < requests.size();) {
    while (next < requests.size() && (next % 3 == 0 || random.below(3) == 0)) {
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

void check_same(const std::vector<ScoredToken>& a, const std::vector<ScoredToken>& b) {
  REQUIRE(a.size() == b.size());
  bool same = true;
  for (size_t i = 0; i < a.size(); ++i)
    same = same && a[i].token == b[i].token && a[i].logprob == b[i].logprob && a[i].top == b[i].top;
  CHECK(same);
}

// Everything that a request gets, whatever else runs: against generate() and against an engine of one text.
EngineStats check_alike(const Tiny& t, EngineSettings settings, uint64_t seed, int64_t count) {
  const std::vector<Request> requests = random_requests(seed, count, 60);
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
    const Generated expected = generate(t.model, *byte_tokenizer(), r.prompt, g, r.random);
    CHECK(alone.at(i).tokens == expected.tokens);
    CHECK(alone.at(i).text == expected.text);
    CHECK(alone.at(i).finish == expected.finish);
  }
  EngineStats all;
  for (int round = 0; round < 3; ++round) {
    EngineSettings s = settings;
    s.parallel = std::array{3, 8, 20}[round];
    s.page_rows = std::array{64, 128, 192}[round];
    s.cache_tokens = std::array{512, 768, 1152}[round];
    s.chunk = std::array{64, 256, 512}[round];
    s.busy_chunk = std::array{64, 64, 192}[round];
    s.reuse = true;
    const std::vector<size_t> cancelled = {3, 4, 11};
    EngineStats stats;
    const Done together = run(t, s, requests, seed + static_cast<uint64_t>(round), cancelled, &stats);
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
    }
    all.preemptions += stats.preemptions;
    all.cached_tokens += stats.cached_tokens;
  }
  CHECK(all.cached_tokens > 0);
  return all;
}

EngineSettings of_type(DType type, kernels::CacheCode code = kernels::CacheCode::none) {
  EngineSettings s;
  s.type = type;
  s.code = code;
  return s;
}

}  // namespace

TEST_CASE("a text does not depend on what is written beside it, for every kind of attention") {
  std::vector<std::string> kinds = mixer_examples();
  kinds.push_back("full,window:70:3,routed:64:2");
  uint64_t seed = 1;
  for (const std::string& kind : kinds) {
    int64_t preemptions = 0;
    for (const DType type : {DType::f32, DType::bf16}) {
      CAPTURE(kind);
      CAPTURE(name_of(type));
      preemptions += check_alike(Tiny(tiny(kind)), of_type(type), ++seed, 26).preemptions;
    }
    CHECK(preemptions > 0);
  }
}

TEST_CASE("nor with experts, packed weights, learned positions and caches of few bits") {
  for (const char* form : {"bf16", "bf16 sparse", "int8", "int8 sparse", "int4"}) {
    CAPTURE(form);
    check_alike(Tiny(tiny("full,window:40"), form), of_type(DType::bf16), 21, 14);
    check_alike(Tiny(tiny("full", 4), form), of_type(DType::f32), 22, 14);
  }
  check_alike(Tiny(tiny("routed:64:2", 4)), of_type(DType::bf16), 23, 14);
  check_alike(Tiny(tiny("full", 0, PositionKind::learned)), of_type(DType::f32), 24, 14);
  check_alike(Tiny(tiny("full,window:40,routed:64:2")), of_type(DType::bf16, kernels::CacheCode::int8), 25, 20);
  check_alike(Tiny(tiny("full,window:40")), of_type(DType::f32, kernels::CacheCode::int4), 26, 14);
}

TEST_CASE("nor with layers that some tokens pass by") {
  for (const char* kind : {"full", "full,window:40", "routed:64:2"}) {
    CAPTURE(kind);
    Config config = tiny(kind);
    set_depth_routers(config, std::vector<int64_t>{1, 2}, 0.5);
    Tiny t(config);
    struct Larger : Visitor {  // so that some go through, and some do not
      void weight(const ParameterInfo&, std::shared_ptr<Weight>&) override {}
      void parameter(const ParameterInfo& info, Parameter& parameter) override {
        if (info.role == Role::depth_router)
          for (float& x : parameter.value.span<float>()) x *= 20;
      }
    } larger;
    t.model.visit(larger);
    check_alike(t, of_type(DType::f32), 31, 14);
    check_alike(t, of_type(DType::bf16, kernels::CacheCode::int8), 32, 14);
  }
}

TEST_CASE("log-probabilities are those of the model's distribution") {
  const Tiny t(tiny("full"));
  Request r;
  for (int32_t i = 0; i < 90; ++i) r.prompt.push_back(1 + i * 5 % 200);
  r.tokens = 3;
  r.sampling.temperature = 0;
  r.logprobs = 2;
  r.score_prompt = true;
  r.ignore_end = true;
  const Completion c = run(t, of_type(DType::f32), {r}, 1).at(0);
  REQUIRE(c.prompt_scores.size() == 89);
  std::vector<int32_t> ids = r.prompt;
  ids.insert(ids.end(), c.tokens.begin(), c.tokens.end());
  const NoTape pause;
  const int64_t length = static_cast<int64_t>(ids.size());
  const Tensor logits = t.model.logits(t.model.hidden(ids, t.model.call(Batch::whole(1, length), DType::f32)).value());
  for (size_t i = 1; i < ids.size(); ++i) {
    const auto row = logits.rows(static_cast<int64_t>(i) - 1, 1).span<float>();
    double total = 0;
    for (const float x : row) total += std::exp(static_cast<double>(x));
    const ScoredToken& s = i < 90 ? c.prompt_scores[i - 1] : c.scores[i - 90];
    CHECK(s.token == ids[i]);
    CHECK(s.logprob ==
          doctest::Approx(static_cast<double>(row[static_cast<size_t>(ids[i])]) - std::log(total)).epsilon(1e-4));
    REQUIRE(s.top.size() == 2);
    CHECK(s.top[0].second >= s.top[1].second);
    CHECK(s.top[0].second ==
          doctest::Approx(static_cast<double>(*std::ranges::max_element(row)) - std::log(total)).epsilon(1e-4));
  }
}

TEST_CASE("the beginning of a prompt is read once") {
  for (const char* kind : {"full", "window:24:3", "routed:64:2"}) {
    CAPTURE(kind);
    const Tiny t(tiny(kind));
    Request r;
    r.prompt.assign(200, 7);
    r.tokens = 2;
    EngineStats stats;
    run(t, of_type(DType::f32), {r, r, r}, 1, {}, &stats);
    CHECK(stats.prompt_tokens == 200 + 2 * (200 - 192));
    CHECK(stats.cached_tokens == 2 * 192);
    Request other = r;  // which leaves the first one in its second page: only what is beside pages may have to be read
    std::fill(other.prompt.begin() + 100, other.prompt.end(), 9);
    run(t, of_type(DType::f32), {r, other, other}, 1, {}, &stats);
    CHECK(stats.cached_tokens == (std::string(kind) == "full" ? 64 + 192 : 192));
    EngineSettings large = of_type(DType::f32);
    large.page_rows = 128;  // of the second page the first half is copied
    Request longer = r;
    longer.prompt.assign(280, 7);
    run(t, large, {longer, r, r}, 1, {}, &stats);
    CHECK(stats.cached_tokens == (std::string(kind) == "full" ? 2 * 192 : 128));
  }
}

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

TEST_CASE("a way of batching changes who is served when, and no text") {
  const Tiny t(tiny("full"));
  const std::vector<Request> requests = random_requests(31, 20, 60);
  EngineSettings s = of_type(DType::f32);
  s.parallel = 5;
  s.cache_tokens = 768;
  EngineStats together;
  const Done expected = run(t, s, requests, 1, {}, &together);
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
