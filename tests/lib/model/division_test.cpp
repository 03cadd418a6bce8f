// Ways to divide a model, from their table; what each of them computes is in divisions/.
#include "model/division.h"

#include <doctest/doctest.h>

#include <set>

#include "base/error.h"
#include "comm/thread_ranks.h"
#include "model/session.h"
#include "model/size.h"
#include "support/check.h"
#include "support/models.h"

using namespace hone;
using namespace hone::test;

namespace {

// Models of which every way divides one.
std::vector<Config> dense_and_mixture() {
  Config dense = small_config(), mixture = small_config();
  dense.padded_vocabulary = 64;
  dense.layers = {{4, 2, 96, "full"}, {2, 2, 64, "full"}};
  for (LayerBlueprint& layer : mixture.layers) {
    layer.experts = 4;
    layer.top_k = 2;
  }
  return {dense, mixture};
}

bool divides(const DivisionKind& way, const Config& config, int64_t ranks) {
  try {
    way.check(config, ranks);
    if (way.require_any) way.require_any(config, ranks);
    return true;
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
    return false;
  }
}

// Of the last of some tokens, through a session.
Tensor last_logits(const Transformer& model) {
  const std::vector<int32_t> ids = some_ids(21);
  Session session(model, {.sequences = 1, .capacity = 32, .type = DType::f32});
  session.feed(std::span(ids).first(20), 7);
  return session.feed(std::span(ids).subspan(20, 1));
}

}  // namespace

TEST_CASE("ways to divide a model go by their names") {
  std::set<std::string_view> names;
  for (const DivisionKind& way : divisions()) {
    CHECK(names.insert(way.name).second);
    CHECK((way.name != "data"));  // which divides no model
    CHECK(&division_named(way.name) == &way);
  }
  CHECK_THROWS_WITH_AS(division_named("layer"), doctest::Contains("tensor"), Error);
  const std::vector<std::string> forms = division_forms("4");
  CHECK(forms.size() == divisions().size());
  CHECK(forms.front() == "tensor:4");
}

TEST_CASE("ranks in rows and columns") {
  for (const DivisionKind& way : divisions())
    run_thread_ranks(6, [&](const std::shared_ptr<Communicator>& all) {
      CAPTURE(std::string(way.name));
      const int me = all->rank();
      const RankGrid grid = RankGrid::of(all, way, 2);
      CHECK((grid.row.way == &way));
      CHECK(grid.row.size() == 2);
      CHECK((grid.group() == grid.row.group));
      CHECK(grid.copies->size() == 3);
      CHECK(grid.copies->rank() == me / 2);
      CHECK(grid.data->size() == (way.own_batches ? 6 : 3));
      CHECK(grid.place(grid.data->rank(), way.own_batches ? 0 : grid.row.group->rank()) == me);
      const std::vector<std::string> row = grid.row.group->gather(std::to_string(me));
      CHECK(row == std::vector<std::string>{std::to_string(me / 2 * 2), std::to_string(me / 2 * 2 + 1)});
      const std::vector<std::string> column = grid.copies->gather(std::to_string(me));
      CHECK(column ==
            std::vector<std::string>{std::to_string(me % 2), std::to_string(me % 2 + 2), std::to_string(me % 2 + 4)});
      CHECK_THROWS_AS(RankGrid::of(all, way, 4), Error);
      CHECK(RankGrid::of(all, way, 6).copies->size() == 1);
      const RankGrid whole = RankGrid::of(all, way, 1);
      CHECK(!whole.row);
      CHECK(whole.group()->size() == 1);
      CHECK(whole.copies->size() == 6);
      CHECK(RankGrid::of(all).data->size() == 6);
      CHECK(!RankGrid::of(all).row);
    });
}

TEST_CASE("of what a way divides a rank has its share, and of all else the whole") {
  for (const DivisionKind& way : divisions()) {
    CHECK(!ModelRanks(way, alone()));
    run_thread_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) {
      const Shares shares = ModelRanks(way, ranks).shares();
      CHECK((shares.*way.share).index == ranks->rank());
      for (const DivisionKind& other : divisions())
        CHECK((shares.*other.share).count == (other.share == way.share ? 2 : 1));
    });
  }
}

TEST_CASE("every way has a model that ranks with less of it compute as one process does") {
  for (const DivisionKind& way : divisions()) {
    CAPTURE(std::string(way.name));
    int divided = 0;
    for (const Config& config : dense_and_mixture()) {
      if (!divides(way, config, 2)) continue;
      ++divided;
      Transformer whole(config);
      initialize(whole, 3);
      const Tensor expected = last_logits(whole);
      const double all = size_of_shape(config).parameters;
      run_thread_ranks(2, [&](const std::shared_ptr<Communicator>& group) {
        const ModelRanks ranks(way, group);
        Transformer part(config, ranks);
        initialize(part, 3);
        CHECK(relative_error(last_logits(part), expected) < 1e-5);
        const double own = size_of_shape(config, ranks).parameters;
        CHECK(own < all);
        CHECK(2 * own >= all);
        if (way.shape_of_one) CHECK(size_of_shape(ranks.shape_of_one(config)).parameters == own);
      });
    }
    CHECK(divided > 0);
  }
}
