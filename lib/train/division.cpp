#include "train/division.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace hone {

StepCut cut_for(const StepCut& asked, int ranks) {
  const int64_t batches = std::lcm(asked.accumulate, int64_t{ranks}), parts = batches / asked.accumulate;
  if (asked.batch % parts != 0)
    throw usage_error(
        "{} ranks cannot share a step of {} x {} sequences evenly; take a batch that {} divides, or another number of "
        "ranks",
        ranks, asked.accumulate, asked.batch, parts);
  return {asked.batch / parts, batches};
}

bool cut_of(const StepCut& other, const StepCut& asked) {
  return other.accumulate > 0 && other.accumulate % asked.accumulate == 0 &&
         asked.batch % (other.accumulate / asked.accumulate) == 0 &&
         other.batch == asked.batch / (other.accumulate / asked.accumulate);
}

std::vector<int> divide(std::span<const double> sizes, int ranks, std::span<const int> columns, int width) {
  std::vector<size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return sizes[a] > sizes[b]; });
  std::vector<double> load(static_cast<size_t>(ranks), 0);
  std::vector<int> owners(sizes.size());
  for (const size_t i : order) {
    const int column = columns.empty() ? -1 : columns[i];
    const int step = column < 0 ? 1 : width;
    int least = std::max(column, 0);
    for (int rank = least + step; rank < ranks; rank += step)
      if (load[static_cast<size_t>(rank)] < load[static_cast<size_t>(least)]) least = rank;
    owners[i] = least;
    load[static_cast<size_t>(least)] += sizes[i];
  }
  return owners;
}

}  // namespace hone
