#include "compress/gradual.h"

#include <doctest/doctest.h>

#include "base/error.h"
#include "compress/masks.h"
#include "support/models.h"

using namespace hone;
using namespace hone::test;

namespace {

std::unique_ptr<Transformer> model() {
  auto made = std::make_unique<Transformer>(small_config());
  initialize(*made, 1);
  return made;
}

// The lowest sparsity of a linear layer's weight but the head's.
double lowest(Transformer& model) {
  struct Lowest : Visitor {
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      if (!is_linear(info.role) || info.role == Role::head) return;
      const Bitmask mask = weight->mask();
      found = std::min(found, mask ? mask.sparsity() : 0.0);
    }
    void parameter(const ParameterInfo&, Parameter&) override {}
    double found = 1;
  } visitor;
  model.visit(visitor);
  return visitor.found;
}

struct Plan {
  double from, until;
  int64_t every, steps;
};

}  // namespace

TEST_CASE("every schedule has reached its sparsity before the last step of the run") {
  for (const Plan p : {Plan{0.2, 0.7, 10, 60},
                       {0.2, 1.0, 10, 20},
                       {0.5, 1.0, 20, 20},
                       {0.0, 0.0, 1, 5},
                       {0.2, 0.7, 10, 1},
                       {1.0, 1.0, 3, 7}}) {
    CAPTURE(p.steps);
    CAPTURE(p.from);
    const auto m = model();
    const GradualPruning pruning(*m, {parse_pattern("unstructured"), 0.6, p.from, p.until, p.every, p.steps});
    double before = 0;
    for (int64_t step = 0; step < p.steps; ++step) {
      if (step <= pruning.last_pruning()) CHECK(before < 0.6);
      pruning.before_step(step);
      CHECK(lowest(*m) >= before);
      before = lowest(*m);
    }
    CHECK(before >= 0.6);
    CHECK(before < 0.61);
  }
}

TEST_CASE("pruning again at the same step changes nothing: a step that was interrupted is begun anew") {
  const auto m = model();
  const GradualPruning pruning(*m, {parse_pattern("unstructured"), 0.6, 0, 0.5, 1, 40});
  for (int64_t step = 0; step < 8; ++step) pruning.before_step(step);
  const double once = lowest(*m);
  pruning.before_step(7);
  CHECK(lowest(*m) == once);
}

TEST_CASE("what does not fit is refused before the first step") {
  const auto m = model();
  const auto make = [&](const char* pattern, double sparsity, double from, double until, int64_t every) {
    return GradualPruning(*m, {parse_pattern(pattern), sparsity, from, until, every, 10});
  };
  CHECK_THROWS_AS(make("2:4", 0.5, 0, 1, 1), Error);
  CHECK_THROWS_AS(make("unstructured", 1.0, 0, 1, 1), Error);
  CHECK_THROWS_AS(make("unstructured", 0.5, 0.6, 0.5, 1), Error);
  CHECK_THROWS_AS(make("unstructured", 0.5, 0, 1, 0), Error);
  CHECK_THROWS_AS(make("block:7x7", 0.5, 0, 1, 1), Error);
  CHECK_NOTHROW(make("block:4x4", 0.5, 0, 1, 1));
}

TEST_CASE("weights that are pruned further than asked are counted") {
  const auto m = model();
  const auto asking = [&](double sparsity) {
    return GradualPruning(*m, {parse_pattern("unstructured"), sparsity, 0, 0, 1, 5});
  };
  CHECK(asking(0).pruned_beyond().beyond == 0);
  asking(0.6).before_step(0);
  CHECK(asking(0.5).pruned_beyond().weights == 8);
  CHECK(asking(0.5).pruned_beyond().beyond == 8);
  CHECK(asking(0.7).pruned_beyond().beyond == 0);
}

TEST_CASE("the head is no layer that is pruned, whether it is the embedding or a matrix of its own") {
  for (const bool tied : {true, false}) {
    Config config = small_config();
    config.tied = tied;
    Transformer m(config);
    initialize(m, 1);
    GradualPruning(m, {parse_pattern("unstructured"), 0.6, 0, 0, 1, 5}).before_step(0);
    CHECK(lowest(m) >= 0.6);
    CHECK_FALSE(m.head().weight->mask());
    CHECK_FALSE(m.embedding()->mask());
  }
}
