// A whole block against a plain one, and what it draws and reports.
#include "nn/block.h"

#include <doctest/doctest.h>

#include "lib/nn/plain.h"

using namespace hone;
using namespace hone::test;

namespace {

constexpr int64_t dim = 32;
constexpr int64_t head_dim = 8;

BlockBlueprint blueprint(bool gpt2) {
  BlockBlueprint b;
  b.dim = dim;
  b.head_dim = head_dim;
  if (gpt2) {
    b.norm = norm_named("layer_norm");
    b.activation = activation_named("gelu");
    b.biases = true;
  }
  return b;
}

LayerBlueprint layer(int64_t heads, int64_t kv_heads) {
  LayerBlueprint l;
  l.heads = heads;
  l.kv_heads = kv_heads;
  l.ffn = 48;
  return l;
}

Call call_of(Batch batch, DType type = DType::f32) {
  Call call;
  call.batch = std::move(batch);
  call.type = type;
  return call;
}

Stream stream_of(const Tensor& residual, const Tensor& branch = {}) {
  return {Var(residual.clone()), branch ? Var(branch.clone()) : Var(), {}};
}

// The sum that a stream stands for.
Plain sum_of(const Stream& stream) {
  return plain_add(Plain(stream.residual.value()), Plain(stream.branch.value()));
}

}  // namespace

TEST_CASE("a block equals a plain one: either style, grouped heads, f32 and bf16") {
  for (const bool gpt2 : {false, true})
    for (const int64_t kv_heads : {4, 2, 1}) {
      CAPTURE(gpt2);
      CAPTURE(kv_heads);
      const BlockBlueprint b = blueprint(gpt2);
      Block block = Block::make(b, layer(4, kv_heads));
      const Named p = Parameters::randomize(block, "b", 1);
      const int64_t length = 13;
      const Tensor residual = random_tensor({2 * length, dim}, 77), branch = random_tensor({2 * length, dim}, 78);
      const Plain in = plain_add(Plain(residual), Plain(branch));
      const Plain mixed = plain_add(
          in, plain_attention(p, "b.attention",
                              plain_norm(p, "b.attention_norm", in, b.norm, static_cast<double>(b.norm_epsilon)),
                              length, 4, kv_heads, head_dim));
      const Plain expected = plain_add(mixed, plain_feed_forward(p, "b.feed_forward",
                                                                 plain_norm(p, "b.feed_forward_norm", mixed, b.norm,
                                                                            static_cast<double>(b.norm_epsilon)),
                                                                 b.activation));
      const Stream out = block.forward(stream_of(residual, branch), call_of(Batch::whole(2, length)), 0, nullptr);
      CHECK(out.terms.empty());
      CHECK(plain_error(out.residual.value(), mixed) < 1e-5);
      const Plain sum = sum_of(out);
      double difference = 0, largest = 0;
      for (size_t i = 0; i < sum.x.size(); ++i) {
        difference = std::max(difference, std::abs(sum.x[i] - expected.x[i]));
        largest = std::max(largest, std::abs(expected.x[i]));
      }
      CHECK(difference < 1e-5 * largest);
      const Stream rounded = block.forward(stream_of(residual, branch.to(DType::bf16)),
                                           call_of(Batch::whole(2, length), DType::bf16), 0, nullptr);
      CHECK(rounded.residual.value().dtype() == DType::f32);
      CHECK(rounded.branch.value().dtype() == DType::bf16);
      CHECK(plain_error(rounded.residual.value(), mixed) < 0.03);
    }
}

TEST_CASE("parallel halves both read the stream that enters the block") {
  BlockBlueprint b = blueprint(true);
  b.activation = activation_named("gelu_erf");
  b.parallel = true;
  Block block = Block::make(b, layer(4, 4));
  const Named p = Parameters::randomize(block, "b", 1);
  const int64_t length = 9;
  const Tensor residual = random_tensor({length, dim}, 77), branch = random_tensor({length, dim}, 78);
  const Plain in = plain_add(Plain(residual), Plain(branch));
  const auto normed = [&](const char* name) {
    return plain_norm(p, name, in, b.norm, static_cast<double>(b.norm_epsilon));
  };
  const Plain mixed = plain_attention(p, "b.attention", normed("b.attention_norm"), length, 4, 4, head_dim);
  const Plain fed = plain_feed_forward(p, "b.feed_forward", normed("b.feed_forward_norm"), b.activation);
  const Stream out = block.forward(stream_of(residual, branch), call_of(Batch::whole(1, length)), 0, nullptr);
  CHECK(plain_error(out.residual.value(), in) < 1e-5);
  CHECK(plain_error(out.branch.value(), plain_add(mixed, fed)) < 1e-5);
}

TEST_CASE(
    "a state lets tokens come in any spans, and sequences of other "
    "lengths beside them") {
  Block block = Block::make(blueprint(false), layer(4, 2));
  Parameters::randomize(block, "b", 3);
  const Tensor a = random_tensor({11, dim}, 1), b = random_tensor({6, dim}, 2);
  const Stream whole_a = block.forward(stream_of(a), call_of(Batch::whole(1, 11)), 0, nullptr);
  const Stream whole_b = block.forward(stream_of(b), call_of(Batch::whole(1, 6)), 0, nullptr);
  const auto state = block.mixer->make_state({2, 20});
  const auto check = [&](std::vector<Span> spans) {
    const Batch batch(std::move(spans));
    const Tensor in = Tensor::empty({batch.rows(), dim});
    int64_t row = 0;
    const auto each = [&](auto&& f) {
      row = 0;
      for (const Span& span : batch.spans())
        for (int64_t t = 0; t < span.count; ++t) f(span.sequence == 0, span.first + t, row++);
    };
    each([&](bool is_a, int64_t position, int64_t to) {
      std::copy_n((is_a ? a : b).data<float>() + position * dim, dim, in.data<float>() + to * dim);
    });
    const Stream out = block.forward(stream_of(in), call_of(batch), 0, state.get());
    each([&](bool is_a, int64_t position, int64_t to) {
      const Stream& whole = is_a ? whole_a : whole_b;
      CHECK(relative_error(out.residual.value().rows(to, 1), whole.residual.value().rows(position, 1)) < 1e-5);
      CHECK(relative_error(out.branch.value().rows(to, 1), whole.branch.value().rows(position, 1)) < 1e-4);
    });
  };
  check({{0, 0, 5}});
  check({{0, 5, 1}, {1, 0, 4}});
  check({{1, 4, 1}, {0, 6, 3}});
  check({{1, 5, 1}, {0, 9, 1}});
}

TEST_CASE(
    "noise belongs to a layer and a site: a block that runs again draws "
    "the same") {
  Block block = Block::make(blueprint(false), layer(4, 4));
  Parameters::randomize(block, "b", 5);
  const Tensor x = random_tensor({20, dim}, 1);
  Call call = call_of(Batch::whole(1, 20));
  call.noise.seed = 3;
  call.noise.dropout = 0.5f;
  const auto dropped = [&](const Call& c, int64_t of_layer) {
    const Stream out = block.forward(stream_of(x), c, of_layer, nullptr);
    std::vector<bool> zero;
    for (const float y : out.branch.value().span<float>()) zero.push_back(y == 0.0f);
    return zero;
  };
  const auto first = dropped(call, 2);
  CHECK(std::ranges::count(first, true) > 200);  // of 640
  CHECK(std::ranges::count(first, true) < 440);
  CHECK(first == dropped(call, 2));
  CHECK(first != dropped(call, 1));
  call.noise.seed = 4;
  CHECK(first != dropped(call, 2));
  call.noise.dropout = 0;
  CHECK(std::ranges::count(dropped(call, 2), true) == 0);
}

TEST_CASE(
    "gradients go through a whole block to what entered it and to every "
    "parameter") {
  Block block = Block::make(blueprint(true), layer(2, 1));
  Parameters::randomize(block, "b", 6);
  struct All : Visitor {
    void weight(const ParameterInfo&, std::shared_ptr<Weight>& weight) override {
      found.push_back(weight->parameter());
    }
    void parameter(const ParameterInfo&, Parameter& parameter) override { found.push_back(&parameter); }
    std::vector<Parameter*> found;
  } all;
  block.visit(Place{"b"}, all);
  const Tensor x = random_tensor({5, dim}, 1);
  Var residual(x, true);
  std::vector<Tensor> numbers = {x};
  for (const Parameter* p : all.found) numbers.push_back(p->value);
  const auto run = [&] {
    for (Parameter* p : all.found) ++p->version;  // the values are changed behind their back
    const Stream out = block.forward({residual, Var(), {}}, call_of(Batch::whole(1, 5)), 0, nullptr);
    return block.feed_forward_norm.forward(out.residual, out.branch, DType::f32).y;  // adds the branch
  };
  check_gradients(
      run, numbers, [&](size_t i) { return i == 0 ? residual.grad() : all.found[i - 1]->grad; }, 2e-2);
}
