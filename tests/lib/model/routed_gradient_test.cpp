// Gradients through a model whose attention chooses blocks by content, against central differences. The choice has no
// gradient, so the differences must be taken where it stays the same: it is watched.
#include <doctest/doctest.h>

#include <cmath>

#include "model/transformer.h"
#include "nn/attention/attention.h"
#include "support/check.h"
#include "support/models.h"

using namespace hone;
using namespace hone::test;

namespace {

using Plans = std::vector<std::shared_ptr<const kernels::BlockPlan>>;

// A kind of attention that shows which blocks it gave.
class Watched : public AttentionPattern {
 public:
  Watched(std::shared_ptr<const AttentionPattern> inner, Plans& seen) : inner_(std::move(inner)), seen_(seen) {}
  kernels::MaskRule rule() const override { return inner_->rule(); }
  CacheNeed need() const override { return inner_->need(); }
  int64_t visible_keys(int64_t position) const override { return inner_->visible_keys(position); }
  std::shared_ptr<const kernels::BlockPlan> plan(const AttentionQueries& call) const override {
    seen_.push_back(inner_->plan(call));
    return seen_.back();
  }
  void check(int64_t context) const override { inner_->check(context); }

 private:
  std::shared_ptr<const AttentionPattern> inner_;
  Plans& seen_;
};

class WatchedAttention : public Attention {
 public:
  WatchedAttention(const BlockBlueprint& block, const LayerBlueprint& layer, Plans& seen) : Attention(block, layer) {
    pattern_ = std::make_shared<Watched>(pattern_, seen);
  }
};

bool same_choice(const Plans& a, const Plans& b) {
  return std::ranges::equal(a, b, [](const auto& x, const auto& y) {
    return x->query_starts == y->query_starts &&
           std::ranges::equal(x->by_query, y->by_query, [](const auto& v, const auto& w) {
             return v.block == w.block && v.queries == w.queries;
           });
  });
}

// Sequences of three blocks, of which a query of the last one sees two: it has one to choose.
constexpr int64_t batch = 2, length = 160;

struct Routed {
  Plans plans;  // of the last run, by layer
  std::unique_ptr<Transformer> model;
  std::vector<int32_t> ids;
  std::vector<std::pair<std::string, Parameter*>> parameters;

  explicit Routed(const std::string& kind) {
    Config config = small_config();
    config.context = length;
    config.layers = {{2, 1, 64, "full"}, {2, 2, 64, "full"}};
    config.block.dim = 32;
    set_attention(config, kind);
    model = std::make_unique<Transformer>(config);
    for (size_t i = 0; i < config.layers.size(); ++i)
      model->blocks()[i].mixer = std::make_unique<WatchedAttention>(config.block, config.layers[i], plans);
    initialize(*model, 3, 0.02);
    Random random(6, "ids");
    for (int64_t i = 0; i < batch * length; ++i) ids.push_back(static_cast<int32_t>(random.below(50)));
    struct Collector : Visitor {
      std::vector<std::pair<std::string, Parameter*>>* all = nullptr;
      // Attention is nearly even at the initial size of the weights; these make it peaked, so that its gradients count.
      void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
        for (float& w : weight->parameter()->value.span<float>()) w *= is_linear(info.role) ? 6 : 20;
        ++weight->parameter()->version;
        all->emplace_back(info.name, weight->parameter());
      }
      void parameter(const ParameterInfo& info, Parameter& parameter) override {
        all->emplace_back(info.name, &parameter);
      }
    } collector;
    collector.all = &parameters;
    model->visit(collector);
  }

  Var hidden() {
    plans.clear();
    return model->hidden(ids, model->call(Batch::whole(batch, length), DType::f32));
  }
};

double dot(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.size(); ++i)
    sum += static_cast<double>(a.data<float>()[i]) * static_cast<double>(b.data<float>()[i]);
  return sum;
}

// The change of the weighted sum of the outputs along `direction`, by central differences with the largest step at
// which every query chooses what it does at `value`. NaN where no step is small enough.
double difference(Routed& routed, Parameter& parameter, const Tensor& direction, const Tensor& weights,
                  const Plans& chosen) {
  const Tensor kept = parameter.value;
  const double unit = std::sqrt(dot(kept, kept) / dot(direction, direction));
  const auto value_at = [&](double step, bool& same) {
    parameter.value = kept.clone();
    for (int64_t i = 0; i < kept.size(); ++i)
      parameter.value.data<float>()[i] += static_cast<float>(step) * direction.data<float>()[i];
    ++parameter.version;
    const Tensor out = routed.hidden().value();
    same = same && same_choice(routed.plans, chosen);
    return dot(out, weights);
  };
  double result = std::nan("");
  for (double step = 8e-3 * unit; step > 2e-4 * unit; step /= 2) {
    bool same = true;
    const double above = value_at(step, same), below = value_at(-step, same);
    if (!same) continue;
    result = (above - below) / (2 * step);
    break;
  }
  parameter.value = kept;
  ++parameter.version;
  return result;
}

}  // namespace

TEST_CASE("routed attention: gradients of every parameter equal central differences where the choice stays") {
  for (const char* kind : {"routed:64:2", "routed:64:2:20"})
    at_every_isa([&] {
      CAPTURE(kind);
      Routed routed(kind);
      Tensor weights;
      Plans chosen;
      {
        Tape tape;
        const Var out = routed.hidden();
        chosen = routed.plans;
        weights = random_tensor(out.shape(), 99);
        tape.backward(out, weights.clone());
      }
      REQUIRE(chosen.size() == 2);
      for (const auto& plan : chosen) CHECK(plan->visible_pairs < plan->causal_pairs);
      for (const auto& [name, parameter] : routed.parameters) {
        CAPTURE(name);
        REQUIRE(parameter->has_grad);
        const Tensor gradient = parameter->grad;
        // Along the gradient itself, where a wrong one shows most, and along one that it has no part in.
        const double along = difference(routed, *parameter, gradient, weights, chosen);
        CHECK(along == doctest::Approx(dot(gradient, gradient)).epsilon(0.01));
        const Tensor random = random_tensor(gradient.shape(), 7);
        const double lengths = std::sqrt(dot(gradient, gradient) * dot(random, random));
        CHECK(std::abs(difference(routed, *parameter, random, weights, chosen) - dot(gradient, random)) <
              0.01 * lengths);
      }
    });
}

TEST_CASE("what routed attention chooses depends on the parameters") {
  Routed routed("routed:64:2");
  routed.hidden();
  const Plans before = routed.plans;
  for (const auto& [name, parameter] : routed.parameters)
    if (name == "blocks.0.attention.qkv.weight") {
      for (float& w : parameter->value.span<float>().first(32 * 32)) w = -w;  // the queries
      ++parameter->version;
    }
  routed.hidden();
  CHECK_FALSE(same_choice(routed.plans, before));
}
