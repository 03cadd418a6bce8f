// Loops over threads of OpenMP's.
#include "kernels/parallel.h"

#include <doctest/doctest.h>
#include <omp.h>

#include <atomic>
#include <vector>

using namespace hone::kernels;

TEST_CASE("loops visit every item once where OpenMP gives fewer threads than were asked for") {
  const int before = threads(), dynamic = omp_get_dynamic();
  set_threads(64);
  omp_set_dynamic(1);  // no more than there are idle processors
  const std::vector<int> once(1000, 1);
  std::vector<int> seen(once.size(), 0);
  std::atomic<int64_t> ranges{0};
  parallel_for(1000, 1, [&](int64_t begin, int64_t end) {
    ++ranges;
    for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
  });
  CHECK(seen == once);
  CHECK(ranges == 64);  // of so many threads, whoever runs them: results must not depend on it
  seen.assign(once.size(), 0);
  parallel_pieces(1000, 1, 3, [&](Pieces& pieces) {
    for (int64_t begin, end; pieces.take(begin, end);)
      for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
  });
  CHECK(seen == once);
  seen.assign(once.size(), 0);
  parallel_each(1000, [&](int64_t i) { ++seen[static_cast<size_t>(i)]; });
  CHECK(seen == once);
  omp_set_dynamic(dynamic);
  set_threads(before);
}
