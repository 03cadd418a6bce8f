#include "train/curriculum.h"

#include <doctest/doctest.h>

#include "base/error.h"
#include "base/stop.h"
#include "lib/train/runs.h"
#include "support/scratch.h"

using namespace hone;
using namespace hone::test;

namespace {

using Stages = std::vector<CurriculumStage>;

RunSettings growing(int64_t steps) {
  RunSettings s = settings(steps);
  s.step.curriculum = curriculum_stages("8:30%,16:20%,32", s.step.batch * s.context, s.context, steps);
  return s;
}

std::string refusal(const std::string& text) {
  try {
    curriculum_stages(text, 8192, 256, 100);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("stages begin where their parts of the steps do") {
  CHECK(curriculum_stages("", 8192, 256, 100) == Stages{{0, 256}});
  CHECK(curriculum_stages("64:20%,128:30%,256", 8192, 256, 1000) == Stages{{0, 64}, {200, 128}, {500, 256}});
  CHECK(curriculum_stages("64:0.5,256:50%", 8192, 256, 10) == Stages{{0, 64}, {5, 256}});
  CHECK(curriculum_stages("64:1%,128:1%,256", 8192, 256, 10) == Stages{{0, 256}});  // parts of no step
  // Halfway between 64 and 128 at a sixth of the way to 256, between 128 and
  // 256 at two thirds.
  CHECK(curriculum_stages("linear:64:256", 8192, 256, 600) == Stages{{0, 64}, {100, 128}, {400, 256}});
  const Stages stages = {{0, 64}, {200, 128}, {500, 256}};
  for (const auto& [step, stage] : std::map<int64_t, size_t>{{0, 0}, {199, 0}, {200, 1}, {499, 1}, {500, 2}, {999, 2}})
    CHECK(stage_of(stages, step) == stage);
  CHECK(describe(stages) == "windows of 64, from step 201 of 128, from step 501 of 256");
}

TEST_CASE("a curriculum that cannot be is refused with the reason") {
  for (const auto& [text, why] : std::map<std::string, std::string>{{"128:20%,64:20%,256", "must not fall"},
                                                                    {"64:20%,512", "longer than the context"},
                                                                    {"64:70%,128:40%,256", "more than 100%"},
                                                                    {"64:20%,256:30%", "50% together"},
                                                                    {"64:20%,128", "must be the context"},
                                                                    {"60:20%,256", "does not divide"},
                                                                    {"64,256", "LENGTH:PART"},
                                                                    {"64:0%,256", "no part"},
                                                                    {"a:20%,256", "no length"},
                                                                    {"0:20%,256", "no length"},
                                                                    {"linear:64", "linear:FROM:TO"},
                                                                    {"linear:256:64", "must"},
                                                                    {",", "LENGTH:PART"},
                                                                    {"cubic:64:256", "nor linear:FROM:CONTEXT"}}) {
    CAPTURE(text);
    CHECK(refusal(text).find(why) != std::string::npos);
  }
}

TEST_CASE("windows grow, batches keep their tokens, and rates do not notice") {
  Model model = fresh(), plain = fresh();
  const RunSettings s = growing(20);
  TextBatches sampler(BatchSampler(text(), 32, 1));
  Trainer trainer(*model.transformer, sampler, s.step);
  for (int64_t step = 0; step < 20; ++step) {
    const StepResult result = trainer.step(step);
    CHECK(result.context == (step < 6 ? 8 : step < 10 ? 16 : 32));
    CHECK(result.tokens == 4 * 32);
    CHECK(result.learning_rate == s.step.schedule.at(step));
  }
}

TEST_CASE(
    "a run with a curriculum resumes as if it had never stopped, "
    "whatever the stage") {
  const std::string path = "train_test_curriculum.h5";
  Model straight = fresh();
  run_training(straight, text(), nullptr, growing(20));
  for (const int64_t stop : {3, 6, 7, 15}) {  // 6: the step that begins a stage
    CAPTURE(stop);
    Model stopped = fresh();
    RunSettings s = growing(20);
    s.checkpoint = path;
    s.before_step = [&](int64_t step) {
      if (step == stop) raise_stop(2);
    };
    run_training(stopped, text(), nullptr, s);
    raise_stop(0);
    ModelFile rest;
    Model resumed = load_model(path, {.run = true}, &rest);
    CHECK(run_training(resumed, text(), nullptr, growing(20), &rest).steps == 20);
    CHECK(equal(after(straight), after(resumed)));
  }
  std::remove(path.c_str());
}
