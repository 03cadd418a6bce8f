// Requests that several threads bring: tests/run.sh runs these under the thread sanitizer, too.
#include <doctest/doctest.h>

#include <thread>

#include "lib/serve/engine_runs.h"
#include "serve/service.h"

using namespace hone;
using namespace hone::test;

namespace {

EngineSettings served_settings() {
  EngineSettings settings;
  settings.parallel = 3;
  settings.capacity = 192;
  settings.type = DType::bf16;
  return settings;
}

std::vector<Request> brought_requests() {
  std::vector<Request> all(6);
  for (size_t i = 0; i < all.size(); ++i) {
    for (size_t t = 0; t < 20 + 15 * i; ++t) all[i].prompt.push_back(static_cast<int32_t>(1 + (i * 31 + t * 7) % 250));
    all[i].tokens = 6;
    all[i].sampling.temperature = 0;
    all[i].ignore_end = true;
  }
  return all;
}

Completion served_alone(const Tiny& t, Request request) {
  Engine engine(t.model, *byte_tokenizer(), served_settings());
  Completion result;
  request.on_done = [&](const Completion& c) { result = c; };
  engine.submit(std::move(request));
  while (engine.step()) continue;
  return result;
}

}  // namespace

TEST_CASE("threads: two bring requests to a service, and each gets what is written alone") {
  for (const char* form : {"", "int8"}) {
    CAPTURE(form);
    const Tiny t(tiny("full,conv:4,window:40", 4), form);
    const std::vector<Request> requests = brought_requests();
    Engine engine(t.model, *byte_tokenizer(), served_settings());
    Service service(engine, 16);
    std::vector<Completion> found(requests.size());
    const auto bring = [&](size_t first) {
      for (size_t i = first; i < requests.size(); i += 2) {
        std::optional<Service::Refusal> refusal;
        const auto tickets = service.submit({requests[i]}, refusal);
        if (refusal) continue;
        while (!tickets.front()->result()) tickets.front()->next(0.01);
        found[i] = *tickets.front()->result();
      }
    };
    // The steps are this thread's, as in serve.
    std::thread end([&] {
      std::thread one([&] { bring(0); }), two([&] { bring(1); });
      one.join();
      two.join();
      service.drain();
    });
    service.run();
    end.join();
    CHECK(service.stats().finished == static_cast<int64_t>(requests.size()));
    CHECK(service.waiting() == 0);
    for (size_t i = 0; i < requests.size(); ++i) {
      CAPTURE(i);
      const Completion alone = served_alone(t, requests[i]);
      REQUIRE(alone.tokens.size() == 6);
      CHECK(found[i].tokens == alone.tokens);
      CHECK(found[i].text == alone.text);
    }
  }
}
