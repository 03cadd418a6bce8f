// Gated short convolutions in the place of attention: against a plain one, through a state, and what the row says.
#include <doctest/doctest.h>

#include <algorithm>

#include "base/error.h"
#include "lib/nn/plain.h"
#include "nn/mixer.h"

using namespace hone;
using namespace hone::test;

namespace {

constexpr int64_t dim = 24;
constexpr int64_t head_dim = 8;
constexpr int64_t heads = 4;
constexpr int64_t width = heads * head_dim;

BlockBlueprint shape_of(bool biases) {
  BlockBlueprint b;
  b.dim = dim;
  b.head_dim = head_dim;
  b.biases = biases;
  return b;
}

std::unique_ptr<Mixer> made(const std::string& kind, bool biases = false) {
  LayerBlueprint layer;
  layer.heads = layer.kv_heads = heads;
  layer.attention = kind;
  return Mixer::make(shape_of(biases), layer);
}

Call call_of(std::vector<Span> spans, DType type = DType::f32) {
  Call call;
  call.batch = Batch(std::move(spans));
  call.type = type;
  return call;
}

// Of sequences of these lengths, one after the other.
Plain plain_mixed(const Named& p, const Plain& x, const std::vector<int64_t>& lengths) {
  const Plain in = plain_linear(p, "m.input", x);
  const Plain& kernel = p.at("m.kernel");
  Plain out(x.rows, width);
  int64_t first = 0;
  for (const int64_t length : lengths) {
    for (int64_t t = 0; t < length; ++t)
      for (int64_t c = 0; c < width; ++c) {
        double sum = 0;
        for (int64_t k = 0; k < kernel.cols && k <= t; ++k)
          sum += kernel(c, k) * in(first + t - k, c) * in(first + t - k, 2 * width + c);
        out(first + t, c) = in(first + t, width + c) * sum;
      }
    first += length;
  }
  return plain_linear(p, "m.output", out);
}

Tensor rows_of(const Tensor& x, int64_t first, int64_t count) {
  return x.rows(first, count).clone();
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return std::ranges::equal(a.to(DType::f32).span<float>(), b.to(DType::f32).span<float>());
}

}  // namespace

TEST_CASE("a gated short convolution equals a plain one, for sequences of different lengths") {
  for (const bool biases : {false, true})
    for (const char* kind : {"conv:2", "conv:4", "conv:9"}) {
      CAPTURE(kind);
      const auto mixer = made(kind, biases);
      const Named p = Parameters::randomize(*mixer, "m", 3);
      const Tensor x = random_tensor({16, dim}, 5);
      const Var y = mixer->forward(Var(x), call_of({{0, 0, 3}, {1, 0, 12}, {2, 0, 1}}), 0, nullptr);
      const Plain expected = plain_mixed(p, Plain(x), {3, 12, 1});
      double difference = 0, largest = 0;
      for (int64_t r = 0; r < 16; ++r)
        for (int64_t c = 0; c < dim; ++c) {
          difference = std::max(difference,
                                std::abs(static_cast<double>(y.value().data<float>()[r * dim + c]) - expected(r, c)));
          largest = std::max(largest, std::abs(expected(r, c)));
        }
      CHECK(difference < 1e-5 * largest);
    }
}

TEST_CASE("its parameters say which rows are whose") {
  struct Seen : Visitor {
    std::map<std::string, std::pair<ParameterInfo, Shape>> all;
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      all[info.name] = {info, {weight->rows(), weight->cols()}};
    }
    void parameter(const ParameterInfo& info, Parameter& parameter) override {
      all[info.name] = {info, parameter.value.shape()};
    }
  } seen;
  made("conv:4", true)->visit(Place{"m"}, seen);
  REQUIRE(seen.all.size() == 5);
  const auto& [input, input_shape] = seen.all.at("m.input.weight");
  CHECK(input.role == Role::mixer_input);
  CHECK(input_shape == Shape{3 * width, dim});
  CHECK(input.parts == std::vector<int64_t>(3, width));
  CHECK(seen.all.at("m.input.bias").first.parts == input.parts);
  const auto& [kernel, kernel_shape] = seen.all.at("m.kernel");
  CHECK(kernel.role == Role::mixer_array);
  CHECK(kernel_shape == Shape{width, 4});
  CHECK(kernel.deviation == 0.5);
  const auto& [output, output_shape] = seen.all.at("m.output.weight");
  CHECK(output.role == Role::mixer_output);
  CHECK(output_shape == Shape{dim, width});
  CHECK(is_linear(Role::mixer_input));
  CHECK(begins_branch(Role::mixer_input));
  CHECK(ends_branch(Role::mixer_output));
  CHECK_FALSE(is_linear(Role::mixer_array));
}

TEST_CASE("pieces through a state are the whole, tokens are taken back, and a kept beginning goes on elsewhere") {
  const auto mixer = made("conv:4");
  Parameters::randomize(*mixer, "m", 3);
  const Tensor first = random_tensor({11, dim}, 5), second = random_tensor({9, dim}, 6);
  const auto whole = [&](const Tensor& x) {
    return mixer->forward(Var(x), call_of({{0, 0, x.dim(0)}}), 0, nullptr).value();
  };
  const StateShape shape = {.sequences = 3, .capacity = 64, .take_back = 2};
  const auto state = mixer->make_state(shape);
  CHECK(static_cast<double>(state->bytes()) == mixer->state_bytes(shape));
  CHECK(state->bytes() == 3 * (3 + 2) * width * 4);
  const auto feed = [&](const Tensor& x, int64_t sequence, int64_t from, int64_t count) {
    return mixer->forward(Var(rows_of(x, from, count)), call_of({{sequence, from, count}}), 0, state.get()).value();
  };
  // Two sequences in one call, of different lengths, and in another order than they stand.
  const Tensor both = Tensor::empty({7, dim});
  std::copy_n(second.data<float>(), 5 * dim, both.data<float>());
  std::copy_n(first.data<float>(), 2 * dim, both.data<float>() + 5 * dim);
  const Tensor began = mixer->forward(Var(both), call_of({{2, 0, 5}, {0, 0, 2}}), 0, state.get()).value();
  CHECK(relative_error(began.rows(0, 5), whole(second).rows(0, 5)) < 1e-4);
  CHECK(relative_error(began.rows(5, 2), whole(first).rows(0, 2)) < 1e-4);
  for (int64_t t = 2; t < 6; ++t) CHECK(relative_error(feed(first, 0, t, 1), whole(first).rows(t, 1)) < 1e-4);
  CHECK(relative_error(feed(second, 2, 5, 4), whole(second).rows(5, 4)) < 1e-4);
  // Two more, which are taken back, and then what truly follows.
  CHECK(state->earliest(0, 8) == 6);
  CHECK(state->earliest(0, 3) == 1);
  feed(random_tensor({11, dim}, 7), 0, 6, 2);
  state->truncate(0, 8, 6);
  CHECK(relative_error(feed(first, 0, 6, 3), whole(first).rows(6, 3)) < 1e-4);
  REQUIRE(state->keeps());
  state->restore(1, 9, state->keep(0, 9));
  const Tensor next = feed(first, 0, 9, 2), elsewhere = feed(first, 1, 9, 2);
  CHECK(same_bits(next, elsewhere));
  CHECK(relative_error(next, whole(first).rows(9, 2)) < 1e-4);
  // What is remembered without coming out.
  mixer->remember(Var(rows_of(second, 0, 6)), call_of({{1, 0, 6}}), 0, state.get());
  CHECK(relative_error(feed(second, 1, 6, 3), whole(second).rows(6, 3)) < 1e-4);
}

TEST_CASE("a mixer that does not attend says so, and sizes that cannot be are refused") {
  CHECK(attends("full"));
  CHECK(attends("window:8:2"));
  CHECK_FALSE(attends("conv:4"));
  CHECK_FALSE(made("conv:4")->sees_together());
  CHECK(std::string(made("conv:4")->place()) == "mixer");
  CHECK(share_parameters("full", "routed:64:2"));
  CHECK(share_parameters("conv:4", "conv:4"));
  CHECK_FALSE(share_parameters("conv:4", "conv:5"));
  CHECK_FALSE(share_parameters("conv:4", "full"));
  CHECK_FALSE(share_parameters("window:8", "conv:4"));
  for (const char* wrong : {"conv", "conv:", "conv:x", "conv:0", "conv:1", "conv:65", "conv:4:2", "conv:-4"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(check_mixer(wrong), Error);
  }
  CHECK_THROWS_AS(check_mixer("conv:9", 8), Error);
  CHECK_NOTHROW(check_mixer("conv:8", 8));
  CHECK(made("conv:4")->flops(0) == made("conv:4")->flops(1000));
  CHECK(made("conv:4")->state_bytes_read(1000, DType::bf16, kernels::CacheCode::none) == 3 * width * 4);
}
