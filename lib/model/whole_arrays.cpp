#include "model/whole_arrays.h"

#include "base/error.h"
#include "base/stop.h"

namespace hone {
namespace {

// Asks rank by rank for arrays by their place among the names, and ends with -1.
class Asker {
 public:
  Asker(const RankGrid& grid, const KeptArrays& arrays) : grid_(grid), arrays_(arrays) {}
  ~Asker() {
    const int64_t end = -1;
    for (int rank = 1; rank < grid_.all->size(); ++rank)
      wait(*grid_.all->send(std::as_bytes(std::span(&end, 1)), rank));
  }
  Asker(const Asker&) = delete;
  Asker& operator=(const Asker&) = delete;

  Tensor whole(const std::string& name) const {
    const auto found = arrays_.find(name);
    if (found == arrays_.end()) throw internal_error("no rank keeps '{}'", name);
    const KeptArray& kept = found->second;
    const int64_t place = std::distance(arrays_.begin(), found);
    if (!kept.part.divided()) return part(kept, place, 0);
    const Tensor all = Tensor::empty(whole_shape(kept.part, kept.tensor.shape()), kept.tensor.dtype());
    for (int column = 0; column < kept.part.count; ++column)
      put_part(part(kept, place, column), kept.part.of_rank(column), all);
    return all;
  }

 private:
  Tensor part(const KeptArray& kept, int64_t place, int column) const {
    const int rank = grid_.place(kept.row, column);
    if (rank == 0) return kept.tensor;
    wait(*grid_.all->send(std::as_bytes(std::span(&place, 1)), rank));
    Tensor array = Tensor::empty(kept.tensor.shape(), kept.tensor.dtype());
    wait(*grid_.all->receive({array.raw(), array.bytes()}, rank));
    return array;
  }

  const RankGrid& grid_;
  const KeptArrays& arrays_;
};

void answer(Communicator& all, const KeptArrays& arrays) {
  for (int64_t place = 0;;) {
    wait(*all.receive(std::as_writable_bytes(std::span(&place, 1)), 0));
    if (place < 0) return;
    const Tensor& tensor = std::next(arrays.begin(), place)->second.tensor;
    wait(*all.send({tensor.raw(), tensor.bytes()}, 0));
  }
}

}  // namespace

void with_whole_arrays(const RankGrid& grid, const KeptArrays& arrays,
                       const std::function<void(const WholeArray&)>& f) {
  if (grid.all->rank() > 0) return answer(*grid.all, arrays);
  const Asker asker(grid, arrays);
  f([&](const std::string& name) { return asker.whole(name); });
}

RankGrid grid_of(const Transformer& model) {
  const ModelRanks& ranks = model.model_ranks();
  return ranks ? RankGrid::of(ranks.group, *ranks.way, ranks.size()) : RankGrid();
}

void in_step(const Transformer& model, const std::function<void()>& f) {
  if (!model.ranks()) return f();
  for (const std::string& number : model.ranks()->gather(std::to_string(stop_signal())))
    if (number != "0") throw Stopped(std::stoi(number));
  const StopLater together;
  f();
}

}  // namespace hone
