// Routing kernels against plain references in double, at every instruction set.
#include "kernels/routing/routing.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "lib/kernels/numbers.h"
#include "support/isa.h"

using namespace hone;
using namespace hone::kernels;
using namespace hone::kernels::test;
using hone::test::at_every_isa;

namespace {

// The scores of one row, and its chosen experts with their gates.
struct RoutingReference {
  std::vector<double> scores, gates;
  std::vector<int32_t> chosen;

  RoutingReference(const float* z, int64_t experts, RouterKind kind, int64_t k, const float* bias,
                   bool normalized = true) {
    double sum = 0;
    for (int64_t e = 0; e < experts; ++e) {
      const double x = static_cast<double>(z[e]);
      scores.push_back(kind == RouterKind::softmax ? std::exp(x) : 1 / (1 + std::exp(-x)));
      sum += scores.back();
    }
    if (kind == RouterKind::softmax)
      for (double& s : scores) s /= sum;
    std::vector<int32_t> order(static_cast<size_t>(experts));
    std::iota(order.begin(), order.end(), 0);
    const auto value = [&](int32_t e) {
      const double preference =
          kind == RouterKind::softmax ? static_cast<double>(z[e]) : scores[static_cast<size_t>(e)];
      return preference + (bias ? static_cast<double>(bias[e]) : 0);
    };
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return value(a) > value(b); });
    chosen.assign(order.begin(), order.begin() + k);
    double all = 0;
    for (const int32_t e : chosen) all += scores[static_cast<size_t>(e)];
    for (const int32_t e : chosen) gates.push_back(scores[static_cast<size_t>(e)] / (k > 1 && normalized ? all : 1));
  }
};

}  // namespace

TEST_CASE("router: product and its gradients, f32 and bf16 rows, odd widths") {
  at_every_isa([] {
    const int64_t rows = 37, dim = 75, experts = 9;
    const std::vector<float> x = normal_numbers(rows * dim, 1), w = normal_numbers(experts * dim, 2),
                             dz = normal_numbers(rows * experts, 3);
    const std::vector<bf16> x16 = rounded(x);
    for (const bool half : {false, true}) {
      CAPTURE(half);
      const ConstView in = half ? view(x16.data(), rows, dim) : view(x.data(), rows, dim);
      const auto element = [&](int64_t r, int64_t c) {
        const size_t i = static_cast<size_t>(r * dim + c);
        return static_cast<double>(half ? to_float(x16[i]) : x[i]);
      };
      std::vector<float> z(static_cast<size_t>(rows * experts)), dx(static_cast<size_t>(rows * dim)),
          dw(static_cast<size_t>(experts * dim), 0.5f);
      std::vector<bf16> dx16(dx.size());
      router_logits(in, view(w.data(), experts, dim), view(z.data(), rows, experts));
      const View d = half ? view(dx16.data(), rows, dim) : view(dx.data(), rows, dim);
      router_dx(view(dz.data(), rows, experts), view(w.data(), experts, dim), d);
      router_dw(view(dz.data(), rows, experts), in, view(dw.data(), experts, dim));
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t e = 0; e < experts; ++e) {
          double sum = 0;
          for (int64_t c = 0; c < dim; ++c)
            sum += element(r, c) * static_cast<double>(w[static_cast<size_t>(e * dim + c)]);
          CHECK(static_cast<double>(z[static_cast<size_t>(r * experts + e)]) ==
                doctest::Approx(sum).epsilon(1e-4).scale(10));
        }
        for (int64_t c = 0; c < dim; ++c) {
          double sum = 0;
          for (int64_t e = 0; e < experts; ++e)
            sum += static_cast<double>(dz[static_cast<size_t>(r * experts + e)]) *
                   static_cast<double>(w[static_cast<size_t>(e * dim + c)]);
          const size_t i = static_cast<size_t>(r * dim + c);
          CHECK(static_cast<double>(half ? to_float(dx16[i]) : dx[i]) ==
                doctest::Approx(sum).epsilon(half ? 1e-2 : 1e-4).scale(1));
        }
      }
      for (int64_t e = 0; e < experts; ++e)
        for (int64_t c = 0; c < dim; ++c) {
          double sum = 0.5;
          for (int64_t r = 0; r < rows; ++r)
            sum += static_cast<double>(dz[static_cast<size_t>(r * experts + e)]) * element(r, c);
          CHECK(static_cast<double>(dw[static_cast<size_t>(e * dim + c)]) ==
                doctest::Approx(sum).epsilon(1e-4).scale(10));
        }
    }
  });
}

TEST_CASE(
    "routes: scores, choices and gates of both kinds, divided by their sum or not; a bias changes the choice alone") {
  at_every_isa([] {
    const int64_t rows = 53, experts = 11;
    const std::vector<float> z = normal_numbers(rows * experts, 4, 2), bias = normal_numbers(experts, 5, 0.3);
    for (const RouterKind kind : {RouterKind::softmax, RouterKind::sigmoid})
      for (const int64_t k : {int64_t{1}, int64_t{2}, int64_t{5}, experts})
        for (const auto& [b, normalized] : {std::pair(static_cast<const float*>(nullptr), true),
                                            std::pair(bias.data(), true), std::pair(bias.data(), false)}) {
          std::vector<float> scores(static_cast<size_t>(rows * experts)), gates(static_cast<size_t>(rows * k));
          std::vector<int32_t> chosen(gates.size());
          route_forward(
              {view(z.data(), rows, experts), kind, k, b, scores.data(), chosen.data(), gates.data(), normalized});
          for (int64_t r = 0; r < rows; ++r) {
            const RoutingReference expected(z.data() + r * experts, experts, kind, k, b, normalized);
            for (int64_t j = 0; j < k; ++j) {
              const size_t i = static_cast<size_t>(r * k + j);
              REQUIRE(chosen[i] == expected.chosen[static_cast<size_t>(j)]);
              CHECK(static_cast<double>(gates[i]) ==
                    doctest::Approx(expected.gates[static_cast<size_t>(j)]).epsilon(1e-5));
            }
            for (int64_t e = 0; e < experts; ++e)
              CHECK(static_cast<double>(scores[static_cast<size_t>(r * experts + e)]) ==
                    doctest::Approx(expected.scores[static_cast<size_t>(e)]).epsilon(1e-5));
          }
        }
  });
}

TEST_CASE("experts of vanishing probability that a bias chooses get finite gates") {
  at_every_isa([] {
    const std::vector<float> z = {200, -200, -201}, bias = {0, 500, 500};
    std::vector<float> scores(3), gates(2);
    std::vector<int32_t> chosen(2);
    route_forward(
        {view(z.data(), 1, 3), RouterKind::softmax, 2, bias.data(), scores.data(), chosen.data(), gates.data()});
    CHECK(chosen == std::vector<int32_t>{1, 2});
    CHECK(gates[0] == doctest::Approx(1 / (1 + std::exp(-1.0))).epsilon(1e-5));
  });
}

TEST_CASE("equal scores: the first experts, so that a tie is the same everywhere") {
  at_every_isa([] {
    const std::vector<float> z(5, 1.0f);
    std::vector<float> scores(5), gates(3);
    std::vector<int32_t> chosen(3);
    route_forward({view(z.data(), 1, 5), RouterKind::softmax, 3, nullptr, scores.data(), chosen.data(), gates.data()});
    CHECK(chosen == std::vector<int32_t>{0, 1, 2});
  });
}

TEST_CASE("slots are sorted by expert in the order of the rows, and cut at the capacity") {
  const std::vector<int32_t> chosen = {2, 0, 0, 2, 2, 1, 0, 2, 2, 0};  // 5 rows of 2, experts 0 to 3
  std::vector<int64_t> counts(4), offsets(5);
  std::vector<int32_t> places(10), sources(10);
  CHECK(sort_slots(chosen.data(), 5, 2, 4, 100, counts.data(), offsets.data(), places.data(), sources.data()) == 10);
  CHECK(counts == std::vector<int64_t>{4, 1, 5, 0});
  CHECK(offsets == std::vector<int64_t>{0, 4, 5, 10, 10});
  CHECK(sources == std::vector<int32_t>{0, 1, 3, 4, 2, 0, 1, 2, 3, 4});
  CHECK(places == std::vector<int32_t>{5, 0, 1, 6, 7, 4, 2, 8, 9, 3});
  CHECK(sort_slots(chosen.data(), 5, 2, 4, 3, counts.data(), offsets.data(), places.data(), sources.data()) == 7);
  CHECK(counts == std::vector<int64_t>{4, 1, 5, 0});
  CHECK(offsets == std::vector<int64_t>{0, 3, 4, 7, 7});
  CHECK(places == std::vector<int32_t>{4, 0, 1, 5, 6, 3, 2, -1, -1, -1});
}

TEST_CASE("slots are gathered, weighed and summed, and back, with slots left out") {
  at_every_isa([] {
    const int64_t rows = 19, k = 3, experts = 5, dim = 70;
    const std::vector<float> x = normal_numbers(rows * dim, 1), gates = normal_numbers(rows * k, 2),
                             dy = normal_numbers(rows * dim, 3);
    std::vector<int32_t> chosen, places(static_cast<size_t>(rows * k)), sources(places.size());
    for (int64_t i = 0; i < rows * k; ++i) chosen.push_back(static_cast<int32_t>((i * 7 + i / 3) % experts));
    std::vector<int64_t> counts(experts), offsets(experts + 1);
    const int64_t slots =
        sort_slots(chosen.data(), rows, k, experts, 9, counts.data(), offsets.data(), places.data(), sources.data());
    REQUIRE(slots < rows * k);
    for (const bool half : {false, true}) {
      CAPTURE(half);
      const double tolerance = half ? 2e-2 : 1e-5;
      const size_t size = static_cast<size_t>(slots * dim);
      std::vector<float> a32(x), s32(size), y32(a32), ds32(size), dy32(dy);
      std::vector<bf16> a16(a32.size()), s16(size), y16(a32.size()), ds16(size), dy16(dy.size());
      for (size_t i = 0; i < a32.size(); ++i) a16[i] = y16[i] = to_bf16(a32[i]), dy16[i] = to_bf16(dy[i]);
      const auto pick = [&](std::vector<float>& f, std::vector<bf16>& h, int64_t n) {
        return half ? view(h.data(), n, dim) : view(f.data(), n, dim);
      };
      const auto at = [&](View v, int64_t r, int64_t c) {
        return static_cast<double>(half ? to_float(v.row<bf16>(r)[c]) : v.row<float>(r)[c]);
      };
      const View in = pick(a32, a16, rows), s = pick(s32, s16, slots), y = pick(y32, y16, rows),
                 ds = pick(ds32, ds16, slots), d = pick(dy32, dy16, rows);
      gather_slots(in, sources.data(), s);
      for (int64_t i = 0; i < slots; ++i)
        for (int64_t c = 0; c < dim; ++c) REQUIRE(at(s, i, c) == at(in, sources[static_cast<size_t>(i)], c));
      std::vector<float> d_gates(gates.size(), 7.0f);
      combine_slots_backward(d, s, gates.data(), places.data(), k, ds, d_gates.data());
      combine_slots(s, gates.data(), places.data(), k, true, y);
      for (int64_t r = 0; r < rows; ++r) {
        double sum = 1;
        for (int64_t j = 0; j < k; ++j) {
          const size_t i = static_cast<size_t>(r * k + j);
          double product = 0;
          if (places[i] >= 0) {
            sum += static_cast<double>(gates[i]);
            for (int64_t c = 0; c < dim; ++c) product += at(d, r, c) * at(s, places[i], c);
            CHECK(at(ds, places[i], 5) ==
                  doctest::Approx(static_cast<double>(gates[i]) * at(d, r, 5)).epsilon(tolerance));
          }
          CHECK(static_cast<double>(d_gates[i]) == doctest::Approx(product).epsilon(1e-4).scale(10));
        }
        for (int64_t c = 0; c < dim; ++c)  // every slot of the row holds the row itself
          CHECK(at(y, r, c) == doctest::Approx(sum * at(in, r, c)).epsilon(tolerance).scale(1));
      }
    }
  });
}

TEST_CASE("noise: its mean and deviation, the same for the same seed") {
  const int64_t rows = 500, experts = 16;
  const auto drawn = [&](RouterNoise noise, float temperature, uint64_t seed) {
    std::vector<float> z(static_cast<size_t>(rows * experts), 0.0f);
    add_router_noise(view(z.data(), rows, experts), noise, temperature, seed);
    return z;
  };
  const auto moments = [](const std::vector<float>& z) {
    double sum = 0, squares = 0;
    for (const float v : z) sum += static_cast<double>(v), squares += static_cast<double>(v) * static_cast<double>(v);
    const double mean = sum / static_cast<double>(z.size());
    return std::pair(mean, std::sqrt(squares / static_cast<double>(z.size()) - mean * mean));
  };
  const auto [gaussian_mean, gaussian_deviation] = moments(drawn(RouterNoise::gaussian, 2, 1));
  CHECK(std::abs(gaussian_mean) < 0.08);
  CHECK(gaussian_deviation == doctest::Approx(2).epsilon(0.03));
  const auto [gumbel_mean, gumbel_deviation] = moments(drawn(RouterNoise::gumbel, 0.5f, 1));
  CHECK(gumbel_mean == doctest::Approx(2 * 0.5772).epsilon(0.05));
  CHECK(gumbel_deviation == doctest::Approx(2 * 1.2825).epsilon(0.05));
  CHECK(drawn(RouterNoise::gumbel, 1, 3) == drawn(RouterNoise::gumbel, 1, 3));
  CHECK(drawn(RouterNoise::gumbel, 1, 3) != drawn(RouterNoise::gumbel, 1, 4));
  CHECK(drawn(RouterNoise::none, 1, 3) == std::vector<float>(static_cast<size_t>(rows * experts), 0.0f));
}
