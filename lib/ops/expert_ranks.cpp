#include "ops/expert_ranks.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <span>

namespace hone::ops {
namespace {

std::span<std::byte> bytes_of_slots(const Tensor& slots, int64_t first, int64_t count) {
  const Tensor some = slots.rows(first, count);
  return {some.raw(), some.bytes()};
}

size_t bytes_of_slot(const Tensor& slots) {
  return static_cast<size_t>(slots.dim(-1)) * size_of(slots.dtype());
}

int64_t slots_from(const ExpertRoute& route, int rank) {
  const std::vector<int64_t>& counts = route.counts[static_cast<size_t>(rank)];
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

// f(rank, first of its slots in a block of that rank's alone, first of them in route.owned, how many) for the slots of
// each own expert and rank.
template <class F>
void each_run(const ExpertRoute& route, F&& f) {
  std::vector<int64_t> in_block(route.counts.size(), 0);
  for (size_t e = 0; e + 1 < route.owned->offsets.size(); ++e) {
    int64_t at = route.owned->offsets[e];
    for (size_t rank = 0; rank < route.counts.size(); ++rank) {
      const int64_t count = route.counts[rank][e];
      f(rank, in_block[rank], at, count);
      in_block[rank] += count;
      at += count;
    }
  }
}

void copy_slots(const Tensor& from, int64_t first, const Tensor& to, int64_t at, int64_t count) {
  const size_t bytes = bytes_of_slot(from);
  if (count > 0)
    std::memcpy(to.raw() + static_cast<size_t>(at) * bytes, from.raw() + static_cast<size_t>(first) * bytes,
                static_cast<size_t>(count) * bytes);
}

// One block for each rank, in which slots lie by own expert.
std::vector<Tensor> blocks_of(const ExpertRoute& route, const Tensor& like) {
  std::vector<Tensor> blocks;
  for (int rank = 0; rank < route.ranks->size(); ++rank)
    blocks.push_back(Tensor::empty({slots_from(route, rank), like.dim(-1)}, like.dtype()));
  return blocks;
}

// This rank's slots for each owner.
std::span<std::byte> for_owner(const Tensor& slots, const ExpertRoute& route, int owner) {
  const auto o = static_cast<size_t>(owner);
  return bytes_of_slots(slots, route.begins[o], route.begins[o + 1] - route.begins[o]);
}

Tensor sent_there(const Tensor& slots, const ExpertRoute& route) {
  Communicator& ranks = *route.ranks;
  const std::vector<Tensor> blocks = blocks_of(route, slots);
  std::vector<std::unique_ptr<Pending>> on_way;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const Tensor& block = blocks[static_cast<size_t>(rank)];
    if (rank == ranks.rank()) {
      std::ranges::copy(for_owner(slots, route, rank), block.raw());
      continue;
    }
    on_way.push_back(ranks.receive({block.raw(), block.bytes()}, rank));
    on_way.push_back(ranks.send(for_owner(slots, route, rank), rank));
  }
  wait(on_way);
  const Tensor owned = Tensor::empty({route.owned->slots, slots.dim(-1)}, slots.dtype());
  each_run(route, [&](size_t rank, int64_t first, int64_t at, int64_t count) {
    copy_slots(blocks[rank], first, owned, at, count);
  });
  return owned;
}

Tensor sent_back(const Tensor& owned, const ExpertRoute& route) {
  Communicator& ranks = *route.ranks;
  const std::vector<Tensor> blocks = blocks_of(route, owned);
  each_run(route, [&](size_t rank, int64_t first, int64_t at, int64_t count) {
    copy_slots(owned, at, blocks[rank], first, count);
  });
  const Tensor slots = Tensor::empty({route.begins.back(), owned.dim(-1)}, owned.dtype());
  std::vector<std::unique_ptr<Pending>> on_way;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const Tensor& block = blocks[static_cast<size_t>(rank)];
    if (rank == ranks.rank()) {
      std::ranges::copy(std::span(block.raw(), block.bytes()), for_owner(slots, route, rank).begin());
      continue;
    }
    on_way.push_back(ranks.receive(for_owner(slots, route, rank), rank));
    on_way.push_back(ranks.send({block.raw(), block.bytes()}, rank));
  }
  wait(on_way);
  return slots;
}

}  // namespace

std::shared_ptr<const ExpertRoute> route_to_owners(const RoutePlan* plan, int64_t experts,
                                                   const std::shared_ptr<Communicator>& ranks) {
  const auto size = static_cast<size_t>(ranks->size()), me = static_cast<size_t>(ranks->rank());
  const size_t own = static_cast<size_t>(experts) / size;
  auto route = std::make_shared<ExpertRoute>();
  route->ranks = ranks;
  // To each owner: whether there is a plan, then the slots of each of its experts.
  std::vector<std::vector<int64_t>> sent(size, std::vector<int64_t>(own + 1, 0)), received = sent;
  for (size_t rank = 0; plan && rank < size; ++rank) {
    sent[rank][0] = 1;
    route->begins.push_back(plan->offsets[rank * own]);
    for (size_t e = 0; e < own; ++e)
      sent[rank][e + 1] = plan->offsets[rank * own + e + 1] - plan->offsets[rank * own + e];
  }
  std::vector<std::unique_ptr<Pending>> on_way;
  for (size_t rank = 0; rank < size; ++rank) {
    if (rank == me) continue;
    on_way.push_back(ranks->receive(std::as_writable_bytes(std::span(received[rank])), static_cast<int>(rank)));
    on_way.push_back(ranks->send(std::as_bytes(std::span(sent[rank])), static_cast<int>(rank)));
  }
  wait(on_way);
  received[me] = sent[me];
  if (std::ranges::any_of(received, [](const std::vector<int64_t>& counts) { return counts[0] == 0; })) return nullptr;
  route->begins.push_back(plan->slots);
  auto owned = std::make_shared<RoutePlan>();
  owned->offsets.assign(own + 1, 0);
  for (const std::vector<int64_t>& counts : received) {
    route->counts.emplace_back(counts.begin() + 1, counts.end());
    for (size_t e = 0; e < own; ++e) owned->offsets[e + 1] += counts[e + 1];
  }
  std::partial_sum(owned->offsets.begin(), owned->offsets.end(), owned->offsets.begin());
  owned->slots = owned->offsets.back();
  route->owned = std::move(owned);
  return route;
}

Var to_owners(const Var& slots, const std::shared_ptr<const ExpertRoute>& route) {
  const Tensor owned = sent_there(slots.value(), *route);
  if (!Tape::recording()) return Var(owned);
  const Var output(owned, true);
  Tape::record([slots, route, output] { slots.add_grad(sent_back(output.take_grad(), *route)); });
  return output;
}

Var from_owners(const Var& owned, const std::shared_ptr<const ExpertRoute>& route) {
  const Tensor slots = sent_back(owned.value(), *route);
  if (!Tape::recording()) return Var(slots);
  const Var output(slots, true);
  Tape::record([owned, route, output] { owned.add_grad(sent_there(output.take_grad(), *route)); });
  return output;
}

std::shared_ptr<const RoutePlan> plan_of_share(const RoutePlan& plan, const Share& share) {
  const auto experts = static_cast<int64_t>(plan.counts.size());
  const auto first = static_cast<size_t>(share.first(experts)), own = static_cast<size_t>(share.of(experts));
  auto part = std::make_shared<RoutePlan>();
  const int64_t begin = plan.offsets[first];
  for (size_t e = 0; e <= own; ++e) part->offsets.push_back(plan.offsets[first + e] - begin);
  part->slots = part->offsets.back();
  part->sources = plan.sources.rows(begin, part->slots);
  return part;
}

Tensor slots_of_all(const Tensor& own, const RoutePlan& plan, Communicator& ranks) {
  const auto experts = static_cast<int64_t>(plan.counts.size());
  const Tensor all = Tensor::empty({plan.slots, own.dim(-1)}, own.dtype());
  std::vector<std::unique_ptr<Pending>> on_way;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const Share share{rank, ranks.size()};
    const int64_t begin = plan.offsets[static_cast<size_t>(share.first(experts))],
                  end = plan.offsets[static_cast<size_t>(share.first(experts) + share.of(experts))];
    if (rank == ranks.rank()) {
      copy_slots(own, 0, all, begin, end - begin);
      continue;
    }
    on_way.push_back(ranks.receive(bytes_of_slots(all, begin, end - begin), rank));
    on_way.push_back(ranks.send({own.raw(), own.bytes()}, rank));
  }
  wait(on_way);
  return all;
}

}  // namespace hone::ops
