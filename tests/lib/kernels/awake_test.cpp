// Loops of threads that stay awake: tests/run.sh runs these under the thread sanitizer, too, so no loop here may be
// OpenMP's.
#include "kernels/awake.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "kernels/parallel.h"

using namespace hone::kernels;

namespace {

struct ThreadsHere {
  explicit ThreadsHere(int count) : before(threads()) { set_threads(count); }
  ~ThreadsHere() { set_threads(before); }
  int before;
};

// Where OpenMP is told to bind threads, or to keep them awake, its loops stay: then there is nothing to test.
bool leads(const Awake& awake) {
  if (!awake.leads()) MESSAGE("OpenMP is told how to wait here");
  return awake.leads();
}

using Counts = std::vector<int>;

// Each loop once over n items; every item must be visited once, by a thread that there is.
void visit_all(int64_t n, int64_t grain) {
  const Counts once(static_cast<size_t>(n), 1);
  std::atomic<bool> indices{true}, inside{true};
  const auto look = [&] {
    if (thread_index() < 0 || thread_index() >= threads()) indices = false;
  };
  Counts seen(once.size(), 0);
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    look();
    for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
  });
  CHECK(seen == once);
  std::ranges::fill(seen, 0);
  parallel_each(n, [&](int64_t i) {
    look();
    ++seen[static_cast<size_t>(i)];
    if (n == 1) return;  // no loop of several threads
    if (!in_parallel()) inside = false;
    parallel_each(2, [&](int64_t) { ++seen[static_cast<size_t>(i)]; });  // of this thread alone
  });
  CHECK(seen == Counts(once.size(), n == 1 ? 1 : 3));
  for (const int64_t piece : {1, 3, 1000}) {
    std::ranges::fill(seen, 0);
    parallel_pieces(n, grain, piece, [&](Pieces& pieces) {
      look();
      for (int64_t begin, end; pieces.take(begin, end);)
        for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
    });
    CHECK(seen == once);
  }
  CHECK(indices);
  CHECK(inside);
  CHECK(!in_parallel());
  CHECK(thread_index() == 0);
}

}  // namespace

TEST_CASE("awake: every loop visits every item once, with any number of threads") {
  for (const int count : {2, 3, 7, 2}) {
    const ThreadsHere some(count);
    const Awake awake(1);
    if (!leads(awake)) return;
    for (int round = 0; round < 20; ++round)
      for (const int64_t n : {0, 1, 2, 5, 64, 301}) visit_all(n, round % 3 + 1);
  }
}

TEST_CASE("awake: who leads, and until when") {
  const ThreadsHere two(2);
  CHECK(!Awake(awake_rows + 1).leads());
  {
    const ThreadsHere one(1);
    CHECK(!Awake(1).leads());
  }
  const Awake awake(awake_rows);
  if (!leads(awake)) return;
  const auto elsewhere = [] {
    bool led = false;
    std::thread([&] { led = Awake(1).leads(); }).join();
    return led;
  };
  CHECK(!elsewhere());
  CHECK(!Awake(1).leads());  // the outer one does
  CHECK(awake.leads());
  parallel_each(2, [](int64_t) { adopt_threads(); });
  CHECK(awake.leads());  // inside a loop nothing ends
  adopt_threads();
  CHECK(!awake.leads());
  CHECK(elsewhere());
  CHECK(Awake(1).leads());
}

TEST_CASE("awake: sums that follow each other see what the loops before them wrote") {
  const ThreadsHere three(3);
  const Awake awake(1);
  if (!leads(awake)) return;
  std::vector<int64_t> from(999, 1), to(999, 0);
  for (int round = 0; round < 300; ++round) {
    parallel_pieces(999, 1, 7, [&](Pieces& pieces) {
      for (int64_t begin, end; pieces.take(begin, end);)
        for (int64_t i = begin; i < end; ++i)
          to[static_cast<size_t>(i)] = from[static_cast<size_t>(998 - i)] + from[static_cast<size_t>(i)] % 2;
    });
    std::swap(from, to);
    if (round % 100 == 99) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // the others fall asleep
  }
  std::vector<int64_t> expected(999, 1), next(999, 0);
  for (int round = 0; round < 300; ++round) {
    for (size_t i = 0; i < 999; ++i) next[i] = expected[998 - i] + expected[i] % 2;
    std::swap(expected, next);
  }
  CHECK(from == expected);
}

TEST_CASE("awake: nobody waits for threads that do not come") {
  const ThreadsHere three(3);
  const Awake awake(1);
  if (!leads(awake)) return;
  const pid_t child = fork();
  if (child == 0) {  // the copy of the process has this thread alone
    std::vector<int> seen(100, 0);
    parallel_for(100, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
    });
    parallel_each(100, [&](int64_t i) { ++seen[static_cast<size_t>(i)]; });
    _exit(std::ranges::all_of(seen, [](int count) { return count == 2; }) ? 0 : 1);
  }
  REQUIRE(child > 0);
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
