// Routers of depth: which tokens go through a block, what it gives them, and what is remembered of them.
#include "nn/depth_router.h"

#include <doctest/doctest.h>

#include "base/error.h"
#include "lib/nn/plain.h"

using namespace hone;
using namespace hone::test;

namespace {

constexpr int64_t dim = 32, head_dim = 8, tokens = 12;

BlockBlueprint blueprint(bool gpt2, bool parallel) {
  BlockBlueprint b;
  b.dim = dim;
  b.head_dim = head_dim;
  b.parallel = parallel;
  if (!gpt2) return b;
  b.norm = norm_named("layer_norm");
  b.activation = activation_named("gelu");
  b.biases = true;
  return b;
}

LayerBlueprint layer(int64_t heads = 4, int64_t ffn = 48) {
  LayerBlueprint l{heads, heads / 2, ffn, "full"};
  l.depth_fraction = 0.5;
  return l;
}

Call call_of(Batch batch, bool best) {
  Call call;
  call.batch = std::move(batch);
  call.best_pass = best;
  return call;
}

// Remembers what it is asked, and keeps all but the last `back` tokens.
class InnerState : public LayerState {
 public:
  explicit InnerState(int64_t back) : back_(back) {}
  int64_t bytes() const override { return 100; }
  int64_t earliest(int64_t, int64_t length) const override { return std::max<int64_t>(1, length - back_); }
  void truncate(int64_t, int64_t length, int64_t left) override { cuts.emplace_back(length, left); }
  std::vector<Tensor> keep(int64_t, int64_t length) const override {
    return {Tensor::of({1}, {static_cast<float>(length)})};
  }
  void restore(int64_t, int64_t length, const std::vector<Tensor>& kept) override {
    CHECK(kept.size() == 1);
    CHECK(static_cast<int64_t>(kept.front().data<float>()[0]) == length);
  }
  std::vector<std::pair<int64_t, int64_t>> cuts;

 private:
  int64_t back_;
};

Plain rows_of(const Plain& x, const std::vector<int64_t>& rows) {
  Plain some(static_cast<int64_t>(rows.size()), x.cols);
  for (size_t r = 0; r < rows.size(); ++r)
    for (int64_t c = 0; c < x.cols; ++c) some(static_cast<int64_t>(r), c) = x(rows[r], c);
  return some;
}

// What the block adds to rows of one sequence that go through it, before their gates.
Plain added(const Named& p, const BlockBlueprint& b, const LayerBlueprint& l, const Plain& x) {
  const auto norm = [&](const char* name, const Plain& of) {
    return plain_norm(p, name, of, b.norm, static_cast<double>(b.norm_epsilon));
  };
  Plain sum(x.rows, x.cols);
  if (l.mixes())
    sum = plain_attention(p, "b.attention", norm("b.attention_norm", x), x.rows, l.heads, l.kv_heads, head_dim);
  if (!l.feeds()) return sum;
  return plain_add(
      sum, plain_feed_forward(p, "b.feed_forward", norm("b.feed_forward_norm", b.parallel ? x : plain_add(x, sum)),
                              b.activation));
}

// In double precision: the rows of each sequence that go through get what both halves add, times their gates.
Plain expected_block(const Named& p, const BlockBlueprint& b, const LayerBlueprint& l, const Plain& in, bool best) {
  const Plain y = plain_norm(p, "b.depth_router.norm", in, b.norm, static_cast<double>(b.norm_epsilon));
  const auto dot = [&](int64_t row, const Plain& w, int64_t of) {
    double sum = 0;
    for (int64_t c = 0; c < w.cols; ++c) sum += y(row, c) * w(of, c);
    return sum;
  };
  Plain out = in;
  for (int64_t first = 0; first < in.rows; first += tokens) {
    std::vector<std::pair<double, int64_t>> order;
    std::vector<int64_t> rows;
    for (int64_t r = first; r < first + tokens; ++r) {
      order.emplace_back(-dot(r, p.at("b.depth_router.weight"), 0), r);
      double logit = p.at("b.depth_router.predictor.output_bias")(0, 0);
      for (int64_t h = 0; h < depth_predictor_width; ++h)
        logit += p.at("b.depth_router.predictor.output")(0, h) *
                 std::max(0.0, dot(r, p.at("b.depth_router.predictor.hidden"), h) +
                                   p.at("b.depth_router.predictor.hidden_bias")(0, h));
      if (!best && logit > 0) rows.push_back(r);
    }
    if (best) {
      std::sort(order.begin(), order.end());
      for (int64_t i = 0; i < tokens / 2; ++i) rows.push_back(order[static_cast<size_t>(i)].second);
      std::sort(rows.begin(), rows.end());
    }
    const Plain more = added(p, b, l, rows_of(in, rows));
    for (size_t i = 0; i < rows.size(); ++i) {
      const double gate = 2 / (1 + std::exp(-dot(rows[i], p.at("b.depth_router.weight"), 0)));
      for (int64_t c = 0; c < dim; ++c) out(rows[i], c) += gate * more(static_cast<int64_t>(i), c);
    }
  }
  return out;
}

}  // namespace

TEST_CASE("the best are as many as the fraction says, one at least, and the first of equals") {
  using Bytes = std::vector<uint8_t>;
  CHECK(best_of(std::vector<float>{3, 1, 2, 5}, 0.5) == Bytes{1, 0, 0, 1});
  CHECK(best_of(std::vector<float>{1, 1, 1, 1}, 0.5) == Bytes{1, 1, 0, 0});
  CHECK(best_of(std::vector<float>{-3, -1}, 0.1) == Bytes{0, 1});
  CHECK(passing_tokens(100, 0.125) == 13);
}

TEST_CASE("a block with a router equals a plain one, in training and elsewhere") {
  for (const bool best : {true, false})
    for (const auto& [gpt2, parallel] : {std::pair{false, false}, {true, false}, {false, true}})
      for (const LayerBlueprint& l : {layer(), layer(0), layer(4, 0)}) {
        CAPTURE(best);
        CAPTURE(gpt2);
        CAPTURE(parallel);
        CAPTURE(l.heads);
        const BlockBlueprint b = blueprint(gpt2, parallel);
        Block block = Block::make(b, l);
        const Named p = Parameters::randomize(block, "b", 1);
        const Tensor residual = random_tensor({2 * tokens, dim}, 77), branch = random_tensor({2 * tokens, dim}, 78);
        ModelDepth depth;
        Call call = call_of(Batch::whole(2, tokens), best);
        call.trace.depth = &depth;
        const Stream out = block.forward({Var(residual.clone()), Var(branch.clone()), {}}, call, 0, nullptr);
        BlockBlueprint halves = b;
        halves.parallel = block.parallel;
        const Plain expected = expected_block(p, halves, l, plain_add(Plain(residual), Plain(branch)), best);
        const Tensor sum = out.residual.value().clone();
        for (int64_t i = 0; i < sum.size(); ++i) sum.data<float>()[i] += out.branch.value().data<float>()[i];
        CHECK(plain_error(sum, expected) < 1e-5);
        CHECK(depth[0].tokens == 2 * tokens);
        CHECK(depth[0].compared == 2 * tokens);
        if (best) CHECK(depth[0].passed == tokens);
        CHECK(out.terms.size() == (best ? 1u : 0u));
      }
}

TEST_CASE("a router whose numbers are not finite says which") {
  Block block = Block::make(blueprint(false, false), layer());
  Parameters::randomize(block, "b", 1);
  Tensor x = random_tensor({tokens, dim}, 5);
  x.data<float>()[3] = NAN;
  CHECK_THROWS_WITH_AS(block.forward({Var(x), Var(), {}}, call_of(Batch::whole(1, tokens), true), 4, nullptr),
                       doctest::Contains("blocks.4.depth_router"), RouterError);
}

TEST_CASE("a state counts the tokens that went through, and knows which they were") {
  auto inner = std::make_unique<InnerState>(2);
  InnerState& recorder = *inner;
  DepthState state(std::move(inner), 2);
  CHECK(state.before(1, 0) == 0);
  CHECK(state.earliest(1, 9) == 1);  // nobody went through
  for (const int32_t position : {2, 3, 7, 9}) state.add(1, position);
  CHECK(state.before(0, 10) == 0);
  CHECK(state.before(1, 10) == 4);
  // Of its 4 tokens 2 must stay: those at 2 and 3.
  CHECK(state.earliest(1, 10) == 4);
  CHECK(state.earliest(1, 9) == 4);  // taking the token at 9 back brings nothing back that it pushed out of a ring
  state.truncate(1, 10, 8);
  CHECK(recorder.cuts == std::vector<std::pair<int64_t, int64_t>>{{4, 3}});
  CHECK(state.before(1, 8) == 3);
  state.truncate(1, 8, 8);
  CHECK(recorder.cuts.size() == 1);
  const std::vector<Tensor> kept = state.keep(1, 5), none = state.keep(0, 5);
  state.restore(0, 5, kept);
  CHECK(state.before(0, 5) == 2);
  state.restore(0, 5, none);
  CHECK(state.before(0, 5) == 0);
  // What was noted by a call that came to no end is forgotten by the next.
  CHECK(state.before(1, 3) == 1);
  CHECK(state.before(1, 9) == 1);
}
