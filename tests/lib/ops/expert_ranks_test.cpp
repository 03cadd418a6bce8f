// Slots of a mixture on their way to the ranks that own its experts, by ranks that are threads.
#include "ops/expert_ranks.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "comm/thread_ranks.h"
#include "support/check.h"

using namespace hone;
using namespace hone::test;

namespace {

constexpr int64_t experts_of_all = 6;

// The expert of each row of a rank.
std::vector<int32_t> choices(const std::string& how, int rank, int ranks) {
  std::vector<int32_t> chosen(static_cast<size_t>(7 + 5 * rank));
  Random random(static_cast<uint64_t>(rank) + 1, "choices");
  for (int32_t& e : chosen) {
    if (how == "any")
      e = static_cast<int32_t>(random.below(experts_of_all));
    else if (how == "all to the last")
      e = experts_of_all - 1;
    else  // one rank's to its own, the others' to the first
      e = rank + 1 == ranks ? experts_of_all - 1 : 0;
  }
  return chosen;
}

// Of each slot its rank, its row there and its expert.
Tensor named_slots(const ops::RoutePlan& plan, int rank) {
  const Tensor slots = Tensor::empty({plan.slots, 3});
  for (size_t e = 0; e + 1 < plan.offsets.size(); ++e)
    for (int64_t i = plan.offsets[e]; i < plan.offsets[e + 1]; ++i) {
      slots.data<float>()[3 * i] = static_cast<float>(rank);
      slots.data<float>()[3 * i + 1] = static_cast<float>(plan.sources.data<int32_t>()[i]);
      slots.data<float>()[3 * i + 2] = static_cast<float>(e);
    }
  return slots;
}

}  // namespace

TEST_CASE("slots go to the owners of their experts, in the order of the ranks, and come back") {
  for (const int size : {1, 2, 3})
    for (const std::string how : {"any", "all to the last", "one's own, and the first"})
      for (const DType type : {DType::f32, DType::bf16}) {
        CAPTURE(size);
        CAPTURE(how);
        std::vector<int64_t> processed(static_cast<size_t>(size));
        run_thread_ranks(size, [&](const std::shared_ptr<Communicator>& ranks) {
          const int me = ranks->rank();
          const auto plan = ops::plan_of_rows(choices(how, me, size), experts_of_all);
          const auto route = ops::route_to_owners(plan.get(), experts_of_all, ranks);
          REQUIRE((route != nullptr));
          const Tensor values = named_slots(*plan, me).to(type), slope = random_tensor(values.shape(), 9).to(type);
          Tape tape;
          const Var slots(values, true);
          const Var owned = ops::to_owners(slots, route), back = ops::from_owners(owned, route);
          CHECK(relative_error(back.value(), values) == 0);
          // By expert, then by rank, then by row.
          const int64_t own = experts_of_all / size;
          std::vector<float> expected;
          for (int64_t e = me * own; e < (me + 1) * own; ++e) {
            CHECK(route->owned->offsets[static_cast<size_t>(e - me * own)] ==
                  static_cast<int64_t>(expected.size()) / 3);
            for (int rank = 0; rank < size; ++rank) {
              const std::vector<int32_t> chosen = choices(how, rank, size);
              for (size_t row = 0; row < chosen.size(); ++row)
                if (chosen[row] == e)
                  expected.insert(expected.end(),
                                  {static_cast<float>(rank), static_cast<float>(row), static_cast<float>(e)});
            }
          }
          const Tensor seen = owned.value().to(DType::f32);
          CHECK(std::ranges::equal(seen.span<float>(), expected));
          CHECK(route->owned->slots == owned.value().dim(0));
          processed[static_cast<size_t>(me)] = route->owned->slots;
          tape.backward(back, slope.clone());
          CHECK(relative_error(slots.grad(), slope) == 0);
          Tape there;
          const Var again(values, true);
          const Var sent = ops::to_owners(again, route);
          there.backward(sent, sent.value().clone());
          CHECK(relative_error(again.grad(), values) == 0);
        });
        int64_t all = 0;
        for (int rank = 0; rank < size; ++rank) all += 7 + 5 * rank;
        CHECK(std::accumulate(processed.begin(), processed.end(), int64_t{0}) == all);
        if (how == "all to the last") CHECK(processed.back() == all);
      }
}

TEST_CASE("a router that fails on one rank fails on all") {
  run_thread_ranks(3, [&](const std::shared_ptr<Communicator>& ranks) {
    const auto plan = ops::plan_of_rows(choices("any", ranks->rank(), 3), experts_of_all);
    const auto failed = ops::route_to_owners(ranks->rank() == 1 ? nullptr : plan.get(), experts_of_all, ranks);
    CHECK((failed == nullptr));
    const auto route = ops::route_to_owners(plan.get(), experts_of_all, ranks);
    CHECK((route != nullptr));
  });
}

TEST_CASE("of the same rows each rank has its experts' slots, and gives them to all") {
  for (const int size : {2, 3})
    for (const std::string how : {"any", "all to the last"}) {
      CAPTURE(size);
      CAPTURE(how);
      const auto plan = ops::plan_of_rows(choices(how, 2, size), experts_of_all);
      const Tensor slots = named_slots(*plan, 0);
      run_thread_ranks(size, [&](const std::shared_ptr<Communicator>& ranks) {
        const Share share{ranks->rank(), size};
        const auto own = ops::plan_of_share(*plan, share);
        CHECK(own->offsets.size() == static_cast<size_t>(experts_of_all / size) + 1);
        const int64_t begin = plan->offsets[static_cast<size_t>(share.first(experts_of_all))];
        for (int64_t i = 0; i < own->slots; ++i)
          CHECK(own->sources.data<int32_t>()[i] == plan->sources.data<int32_t>()[begin + i]);
        const Tensor mine = slots.rows(begin, own->slots);
        CHECK(relative_error(ops::slots_of_all(mine, *plan, *ranks), slots) == 0);
      });
    }
}
