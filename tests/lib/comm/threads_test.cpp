// Ranks that are threads of one process: tests/run.sh runs these under the thread sanitizer, too.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/error.h"
#include "comm/communicator.h"
#include "comm/thread_ranks.h"

using namespace hone;

namespace {

using Ranks = std::shared_ptr<Communicator>;

std::vector<int> numbers(int first, size_t count) {
  std::vector<int> all(count);
  std::iota(all.begin(), all.end(), first);
  return all;
}

// Sends to every rank and itself, and takes what they send, of so many numbers each.
void exchange(Communicator& ranks, size_t count) {
  const auto me = static_cast<size_t>(ranks.rank()), all = static_cast<size_t>(ranks.size());
  std::vector<std::vector<int>> out, in(all, std::vector<int>(count));
  for (size_t to = 0; to < all; ++to) out.push_back(numbers(static_cast<int>(1000 * me + to), count));
  std::vector<std::unique_ptr<Pending>> on_way;
  for (size_t to = 0; to < all; ++to)
    on_way.push_back(ranks.send(std::as_bytes(std::span(out[to])), static_cast<int>(to)));
  for (size_t from = 0; from < all; ++from)
    on_way.push_back(ranks.receive(std::as_writable_bytes(std::span(in[from])), static_cast<int>(from)));
  wait(on_way);  // in this order: nobody has to look at what it receives for others to go on
  for (size_t from = 0; from < all; ++from) CHECK(in[from] == numbers(static_cast<int>(1000 * from + me), count));
}

}  // namespace

TEST_CASE("messages of all sizes arrive, whoever comes first, in their order") {
  for (const int size : {1, 2, 5})
    run_thread_ranks(size, [&](const Ranks& ranks) {
      CHECK(ranks->size() == size);
      CHECK(ranks->one_process());
      for (const size_t count : {size_t{0}, size_t{1}, size_t{1000}, size_t{100000}}) exchange(*ranks, count);
    });
}

TEST_CASE("a message that nobody waits for yet need not stay, if it is small") {
  run_thread_ranks(2, [](const Ranks& ranks) {
    if (ranks->rank() == 0) {
      for (int i = 0; i < 3; ++i) wait(*ranks->send(std::as_bytes(std::span(&i, 1)), 1));
      ranks->gather("");
      return;
    }
    ranks->gather("");
    for (int i = 0; i < 3; ++i) {
      int got = -1;
      wait(*ranks->receive(std::as_writable_bytes(std::span(&got, 1)), 0));
      CHECK(got == i);
    }
  });
}

TEST_CASE("what one has comes to all, and broadcasts are no messages") {
  run_thread_ranks(3, [](const Ranks& ranks) {
    for (const size_t count : {size_t{3}, size_t{50000}})
      for (int root = 0; root < 3; ++root) {
        std::vector<int> mine = numbers(100 * ranks->rank(), count), from_first(count);
        std::unique_ptr<Pending> beside;
        if (ranks->rank() == 0)
          beside = ranks->send(std::as_bytes(std::span(mine)), 2);
        else if (ranks->rank() == 2)
          beside = ranks->receive(std::as_writable_bytes(std::span(from_first)), 0);
        std::vector<int> shared = mine;
        wait(*ranks->broadcast(std::as_writable_bytes(std::span(shared)), root));
        CHECK(shared == numbers(100 * root, count));
        if (beside) wait(*beside);
        if (ranks->rank() == 2) CHECK(from_first == numbers(0, count));
      }
  });
}

TEST_CASE("who waits long sleeps, and is woken") {
  run_thread_ranks(3, [](const Ranks& ranks) {
    for (int late = 0; late < 3; ++late) {
      if (ranks->rank() == late) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      CHECK(ranks->gather(std::to_string(10 * late + ranks->rank())).at(2) == std::to_string(10 * late + 2));
      if (ranks->rank() == late) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      exchange(*ranks, 5000);
    }
  });
}

TEST_CASE("many gathers, one behind the other") {
  run_thread_ranks(4, [](const Ranks& ranks) {
    for (int i = 0; i < 2000; ++i) {
      const auto texts = ranks->gather(std::to_string(i * 4 + ranks->rank()));
      for (int rank = 0; rank < 4; ++rank)
        if (texts[static_cast<size_t>(rank)] != std::to_string(i * 4 + rank)) throw std::logic_error("another text");
    }
  });
}

TEST_CASE("parts of the ranks have messages of their own") {
  run_thread_ranks(4, [](const Ranks& ranks) {
    const Ranks row = ranks->split(ranks->rank() / 2), column = ranks->split(ranks->rank() % 2);
    CHECK(row->size() == 2);
    CHECK(row->rank() == ranks->rank() % 2);
    CHECK(column->rank() == ranks->rank() / 2);
    CHECK(row->one_process());
    for (const Ranks& part : {row, column, ranks}) exchange(*part, 3000);
    const auto texts = column->gather(std::to_string(ranks->rank()));
    CHECK(texts == std::vector{std::to_string(ranks->rank() % 2), std::to_string(ranks->rank() % 2 + 2)});
  });
}

TEST_CASE("a rank that fails ends all, wherever they are") {
  enum class At { gather, receive, send, polling, part };
  for (const At at : {At::gather, At::receive, At::send, At::polling, At::part})
    for (const int failing : {0, 2}) {
      CAPTURE(static_cast<int>(at));
      CAPTURE(failing);
      std::atomic<int> ended{0};
      const auto run = [&](const Ranks& ranks) {
        const Ranks part = ranks->split(0);
        std::vector<int> bytes(10000);
        const auto span = std::as_writable_bytes(std::span(bytes));
        if (ranks->rank() == failing) {
          std::this_thread::sleep_for(std::chrono::milliseconds(at == At::send ? 0 : 5));
          throw input_error("of rank {}", failing);
        }
        const struct Counter {
          std::atomic<int>& count;
          ~Counter() { ++count; }
        } counter{ended};
        if (at == At::gather) ranks->gather("");
        if (at == At::part) part->gather("");
        if (at == At::receive) wait(*ranks->receive(span, failing));
        if (at == At::send) wait(*ranks->send(span, failing));
        if (at == At::polling)
          for (const auto coming = ranks->receive(span, failing); !coming->done();) std::this_thread::yield();
        FAIL("nobody came, and the wait ended");
      };
      std::string said;
      try {
        run_thread_ranks(3, run);
      } catch (const Error& error) {
        said = error.what();
        CHECK(error.kind() == ErrorKind::input);
      }
      CHECK(said == "of rank " + std::to_string(failing));
      CHECK(ended == 2);
    }
}

TEST_CASE("memory of messages that nobody took goes with the rank that had them") {
  CHECK_THROWS_AS(run_thread_ranks(2,
                                   [](const Ranks& ranks) {
                                     auto bytes = std::make_unique<std::vector<int>>(100000);
                                     const auto span = std::as_writable_bytes(std::span(*bytes));
                                     if (ranks->rank() == 0) {
                                       const auto sent = ranks->send(span, 1);
                                       const auto coming = ranks->receive(span, 1);
                                       throw input_error("before they were taken");
                                     }
                                     std::this_thread::sleep_for(std::chrono::milliseconds(1));
                                     wait(*ranks->receive(span, 0));  // whole, or never
                                     ranks->gather("");
                                   }),
                  Error);
}

TEST_CASE("what is wrong is said: ranks that are not there, and messages of another length") {
  CHECK_THROWS_AS(run_thread_ranks(2, [](const Ranks& ranks) { ranks->send({}, 2); }), Error);
  CHECK_THROWS_AS(run_thread_ranks(2, [](const Ranks& ranks) { ranks->receive({}, -1); }), Error);
  CHECK_THROWS_AS(run_thread_ranks(2,
                                   [](const Ranks& ranks) {
                                     int four = 4;
                                     const auto bytes = std::as_writable_bytes(std::span(&four, 1));
                                     if (ranks->rank() == 0)
                                       wait(*ranks->send(bytes, 1));
                                     else
                                       wait(*ranks->receive(bytes.first(2), 0));
                                   }),
                  Error);
}
