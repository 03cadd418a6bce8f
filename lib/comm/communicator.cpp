#include "comm/communicator.h"

#include <chrono>
#include <thread>
#include <tuple>
#include <utility>

#include "base/clock.h"
#include "base/error.h"

namespace hone {
namespace {

class Alone : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::vector<std::string> gather(std::string_view mine) override { return {std::string(mine)}; }
  std::unique_ptr<Pending> broadcast(std::span<std::byte>, int root) override { return nobody(root); }
  std::unique_ptr<Pending> send(std::span<const std::byte>, int to) override { return nobody(to); }
  std::unique_ptr<Pending> receive(std::span<std::byte>, int from) override { return nobody(from); }
  std::shared_ptr<Communicator> split(int) override { return alone(); }
  int leave(int status, const std::string& message, const std::function<void(const std::string&)>& say) override {
    if (status != 0) say(message);
    return status;
  }

 private:
  struct Done : Pending {
    bool done() override { return true; }
  };
  static std::unique_ptr<Pending> nobody(int rank) {
    if (rank != 0) throw internal_error("there is no rank {}", rank);
    return std::make_unique<Done>();
  }
};

}  // namespace

// What is on its way moves along only while it is asked for, so that a rank sleeps only where it waits long: for others
// that compute. Before that it leaves the processor to whoever wants it.
void wait(Pending& pending) {
  constexpr int turns = 1000;
  constexpr double long_wait = 0.2;  // seconds
  for (int i = 0; i < turns; ++i)
    if (pending.done()) return;
  for (const Stopwatch waited; !pending.done();)
    if (waited.seconds() < long_wait)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(20));
}

void wait(std::span<const std::unique_ptr<Pending>> all) {
  for (const auto& pending : all) wait(*pending);
}

ModelRanks::ModelRanks(const std::shared_ptr<Communicator>& of_matrices,
                       const std::shared_ptr<Communicator>& of_experts) {
  if (of_matrices && of_matrices->size() > 1) tensor = of_matrices;
  if (of_experts && of_experts->size() > 1) experts = of_experts;
  if (tensor && experts) throw internal_error("ranks divide matrices or experts, not both");
}

namespace {

// The ranks of this one's row and column, of rows of `width`. Of one row or column nothing need be split.
std::pair<std::shared_ptr<Communicator>, std::shared_ptr<Communicator>> row_and_column(
    const std::shared_ptr<Communicator>& all, int width) {
  if (width < 1 || all->size() % width != 0) throw internal_error("{} ranks in rows of {}", all->size(), width);
  if (width == 1) return {alone(), all};
  if (width == all->size()) return {all, alone()};
  const auto column = all->split(all->rank() % width);
  return {all->split(all->rank() / width), column};
}

}  // namespace

RankGrid RankGrid::of(std::shared_ptr<Communicator> all, int tensor) {
  RankGrid grid;
  std::tie(grid.tensor, grid.copies) = row_and_column(all, tensor);
  grid.data = grid.copies;
  grid.all = std::move(all);
  return grid;
}

RankGrid RankGrid::of_experts(std::shared_ptr<Communicator> all, int experts) {
  RankGrid grid;
  std::tie(grid.experts, grid.copies) = row_and_column(all, experts);
  grid.data = all;
  grid.all = std::move(all);
  return grid;
}

std::shared_ptr<Communicator> alone() {
  static const std::shared_ptr<Communicator> one = std::make_shared<Alone>();
  return one;
}

}  // namespace hone
