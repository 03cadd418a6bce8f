// Forms of the moving means that optimizers keep.
#include "train/optimizers/moments.h"

#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/stop.h"
#include "lib/train/runs.h"
#include "support/scratch.h"
#include "train/optimizer.h"

using namespace hone;
using namespace hone::test;

namespace {

struct Kept {
  Moments moments;
  std::map<std::string, Tensor> state;
  Kept(MomentForm form, bool squares, int64_t count, uint64_t seed = 1) : moments(form, "m", squares, seed) {
    for (const StateArray& array : moments.arrays({count})) state[array.name] = Tensor::zeros(array.shape, array.type);
  }
  std::vector<float> round(const std::vector<float>& values, int64_t step = 1) {
    const auto count = static_cast<int64_t>(values.size());
    moments.store(state, 0, count, values.data(), step);
    std::vector<float> out(values.size());
    moments.load(state, 0, count, out.data());
    return out;
  }
};

RunSettings with(MomentForm form, const std::string& optimizer, int64_t steps = 12) {
  RunSettings s = settings(steps);
  s.step.optimizer.kind = &optimizer_named(optimizer);
  s.step.optimizer.moments = form;
  s.step.seed = 3;
  return s;
}

}  // namespace

TEST_CASE("f32 moments come back as they are") {
  Kept kept(MomentForm::f32, false, 3);
  CHECK(kept.round({1.2345678f, -3e-20f, 0}) == std::vector<float>{1.2345678f, -3e-20f, 0});
}

TEST_CASE("8 bits: near the value for what is large in its block, with its sign, and 0 stays 0") {
  const Tensor random = random_tensor({1000}, 4);
  std::vector<float> values(random.span<float>().begin(), random.span<float>().end());
  values[7] = 0;
  values[300] = 50;  // makes the others of its block small, and of no other
  Kept kept(MomentForm::int8, false, 1000);
  const std::vector<float> out = kept.round(values);
  CHECK(out[7] == 0);
  CHECK(out[300] == doctest::Approx(50));
  for (size_t i = 0; i < values.size(); ++i) {
    float largest = 0;
    for (size_t j = i / 256 * 256; j < std::min(values.size(), i / 256 * 256 + 256); ++j)
      largest = std::max(largest, std::abs(values[j]));
    CAPTURE(values[i]);
    // Half of what lies between two codes, and what is lost by looking 16 bits of a number up.
    CHECK(std::abs(out[i] - values[i]) <= 0.0091f * largest);
    // Relative to themselves, since codes lie closer near 0.
    if (std::abs(values[i]) > 0.01f * largest) CHECK(std::abs(out[i] - values[i]) <= 0.12f * std::abs(values[i]));
  }
  CHECK(kept.state.at("m").bytes() == 1000);
  CHECK(kept.state.at("m_scales").size() == 4);
}

TEST_CASE("8 bits of squares: never 0 for what is not, so that nothing is divided by it") {
  Kept kept(MomentForm::int8, true, 6);
  const std::vector<float> out = kept.round({1, 0.25f, 1e-4f, 1e-8f, 1e-30f, 0});
  CHECK(out[0] == doctest::Approx(1));
  CHECK(out[1] == doctest::Approx(0.25).epsilon(0.02));
  CHECK(out[2] == doctest::Approx(1e-4).epsilon(0.1));
  CHECK(out[3] == doctest::Approx(1e-8).epsilon(0.3));
  CHECK(out[4] > 0);
  CHECK(out[5] == 0);
}

TEST_CASE("bf16: neighbours by chance whose mean is the value; the same for the same step, another for another") {
  constexpr int64_t count = 4096;
  const float value = 1.0f + 1.0f / 512;  // a quarter of the way from 1 to the next
  Kept kept(MomentForm::bf16, false, count);
  const std::vector<float> values(count, value);
  const std::vector<float> out = kept.round(values, 5);
  double sum = 0;
  for (const float x : out) {
    CHECK((x == 1.0f || x == 1.0f + 1.0f / 128));
    sum += static_cast<double>(x);
  }
  CHECK(sum / count == doctest::Approx(static_cast<double>(value)).epsilon(3e-4));
  CHECK(kept.round(values, 5) == out);
  CHECK(kept.round(values, 6) != out);
  CHECK(Kept(MomentForm::bf16, false, count, 2).round(values, 5) != out);
  CHECK(kept.round({INFINITY, -2.0f, 0}) == std::vector<float>{INFINITY, -2.0f, 0});
}

TEST_CASE("every form with every optimizer: less memory, about the loss, and resumed bit for bit") {
  for (const OptimizerKind& kind : optimizers()) {
    const std::string optimizer(kind.name);
    double exact = 0;
    int64_t bytes = 0;
    for (const MomentForm form : {MomentForm::f32, MomentForm::bf16, MomentForm::int8}) {
      CAPTURE(optimizer);
      CAPTURE(moment_forms[static_cast<size_t>(form)]);
      RunSettings s = with(form, optimizer);
      Model whole = fresh();
      const double loss = run_training(whole, text(), nullptr, s).loss;
      const int64_t state = Optimizer(*fresh().transformer, s.step.optimizer).state_bytes();
      if (form == MomentForm::f32) {
        exact = loss;
        bytes = state;
      }
      CHECK(loss == doctest::Approx(exact).epsilon(0.01));
      CHECK(static_cast<double>(state) ==
            doctest::Approx(static_cast<double>(bytes) * (form == MomentForm::f32    ? 1
                                                          : form == MomentForm::bf16 ? 0.5
                                                                                     : 0.254))
                .epsilon(0.01));
      const Scratch scratch;
      s.checkpoint = scratch / "c.h5";
      s.before_step = [](int64_t step) {
        if (step == 7) raise_stop(2);
      };
      Model begun = fresh();
      run_training(begun, text(), nullptr, s);
      raise_stop(0);
      s.before_step = {};
      ModelFile rest;
      Model resumed = load_model(s.checkpoint, {.run = true}, &rest);
      run_training(resumed, text(), nullptr, s, &rest);
      CHECK(equal(after(resumed), after(whole)));
    }
  }
}

TEST_CASE("cautious decay: only where the update moves towards 0; the schedule takes it away") {
  for (const bool cautious : {false, true})
    for (const OptimizerKind& kind : optimizers()) {
      CAPTURE(kind.name);
      CAPTURE(cautious);
      OptimizerSettings s;
      s.kind = &kind;
      s.weight_decay = 0.5;
      s.cautious_decay = cautious;
      const auto stepped = [&](double decay) {
        Model model = fresh();
        Optimizer optimizer(*model.transformer, s);
        struct Gradients : Visitor {
          void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
            Parameter& p = *weight->parameter();
            const Tensor g = random_tensor(p.value.shape(), info.name.size());
            std::ranges::copy(g.span<float>(), gradient_to_add(p).span<float>().begin());
          }
          void parameter(const ParameterInfo&, Parameter&) override {}
        } gradients;
        model.transformer->visit(gradients);
        optimizer.step(0.1, 1, decay);
        return after(model);
      };
      Model model = fresh();
      const auto before = after(model), without = stepped(0), with = stepped(1);
      int64_t kept = 0, shrunk = 0;
      for (const char* name : {"blocks.0.attention.qkv.weight", "embedding.weight"}) {
        const auto old = before.at(name).span<float>(), a = without.at(name).span<float>(),
                   b = with.at(name).span<float>();
        for (size_t i = 0; i < old.size(); ++i) {
          const bool towards = (a[i] - old[i]) * old[i] < 0;
          if (cautious && !towards) {
            CHECK(a[i] == doctest::Approx(b[i]).epsilon(1e-5));
            ++kept;
          } else {
            CHECK(b[i] == doctest::Approx(a[i] - 0.05f * old[i]).epsilon(1e-4));
            ++shrunk;
          }
        }
      }
      CHECK(shrunk > 0);
      CHECK((kept > 0) == cautious);
    }
  CHECK(decay_schedule_named("constant").part(9, 10) == 1);
  CHECK(decay_schedule_named("linear").part(0, 11) == 1);
  CHECK(decay_schedule_named("linear").part(5, 11) == doctest::Approx(0.5));
  CHECK(decay_schedule_named("cosine").part(10, 11) == doctest::Approx(0).epsilon(1e-9));
  CHECK_THROWS_AS(decay_schedule_named("wsd"), Error);
  for (const DecaySchedule& row : decay_schedules()) {
    CAPTURE(std::string(row.name));
    CHECK(&decay_schedule_named(std::string(row.name)) == &row);
    CHECK(row.part(0, 20) == 1);
    CHECK(row.part(0, 1) == 1);
    for (int64_t step = 1; step < 20; ++step) {
      CHECK(row.part(step, 20) <= row.part(step - 1, 20));
      CHECK(row.part(step, 20) >= 0);
    }
  }
}
