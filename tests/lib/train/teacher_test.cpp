// Learning from a teacher: what it adds to a step, that nothing of it depends on what is computed again, and
// predictions that are kept in a file.
#include "train/teacher.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "lib/train/runs.h"
#include "measure/activations.h"
#include "nn/block.h"
#include "support/scratch.h"
#include "support/turns.h"
#include "train/fingerprint.h"
#include "train/teacher_cache.h"
#include "train/trainer.h"

using namespace hone;
using namespace hone::test;

namespace {

std::shared_ptr<const Teacher> of(Model& model) {
  return model_teacher({model.transformer.get(), [](const Transformer*) {}});
}

Model other(uint64_t seed) {
  Model model = fresh();
  initialize(*model.transformer, seed, 0.3);
  return model;
}

StepSettings step_settings(const std::shared_ptr<const Teacher>& teacher, float hidden = 0) {
  StepSettings s = settings(20).step;
  s.dropout = 0;
  s.objectives.distillation = {teacher, 2, 1.5f, hidden, 0};
  return s;
}

}  // namespace

TEST_CASE("a teacher that is the model itself adds nothing; another is learned from") {
  Model model = fresh(), teacher = other(3);
  TextBatches sampler(BatchSampler(text(), 32, 1));
  const Corpus corpus = text();
  {
    TextBatches own(BatchSampler(corpus, 32, 1)), none(BatchSampler(corpus, 32, 1));
    Model same = fresh();
    Trainer with(*same.transformer, own, step_settings(of(same)));
    Model plain = fresh();
    Trainer without(*plain.transformer, none, step_settings(nullptr));
    const StepResult a = with.step(0), b = without.step(0);
    CHECK(a.terms.at("teacher") < 1e-5);
    CHECK(a.loss == b.loss);
    CHECK(a.gradient_norm == doctest::Approx(b.gradient_norm).epsilon(1e-4));
    CHECK(b.terms.size() == 1);
  }
  Trainer trainer(*model.transformer, sampler, step_settings(of(teacher), 0.5f));
  const StepResult first = trainer.step(0);
  StepResult last;
  for (int64_t step = 1; step < 20; ++step) last = trainer.step(step);
  CHECK(first.terms.at("teacher") > 0.05);
  CHECK(last.terms.at("teacher") < 0.95 * first.terms.at("teacher"));
  CHECK(last.terms.at("teacher_hidden") < first.terms.at("teacher_hidden"));
  CHECK(last.minimized == doctest::Approx(last.loss + last.terms.at("teacher") + last.terms.at("teacher_hidden")));
  CHECK(last.router_loss == 0);
}

TEST_CASE("what a teacher takes is counted before it runs") {
  Model teacher = other(3);
  std::vector<int32_t> ids(16 * 64, 7);
  const std::vector<int64_t> starts(16);
  const TrainingShape shape = {.batch = 16, .context = 64};
  double weights = 0;
  for (const auto& [name, values] : after(teacher)) weights += static_cast<double>(values.bytes());
  reset_pool_peak();
  const size_t before = pool_used_bytes();
  const auto answer = of(teacher)->answer({ids, starts, DType::f32}, true);
  const double logits = 1024 * 256 * 4, taken = static_cast<double>(pool_peak_bytes() - before) + logits;
  const double counted = teacher_bytes(*teacher.transformer, shape, true) - weights;
  CHECK(taken < 1.15 * counted);
  CHECK(taken > 0.6 * counted);
}

TEST_CASE("with a teacher too, what is computed again changes no bit") {
  const Corpus corpus = text();
  std::map<std::string, Tensor> expected;
  int64_t first_turn = 0;
  for (const char* plan : {"none", "blocks", "every:2", "feed_forward", "attention"}) {
    CAPTURE(plan);
    int64_t turn = first_turn++;
    for (const DType type : {DType::f32, DType::bf16}) {
      // Under the sanitizers each plan in one of the types, but for the first, which others are compared with.
      if (!takes_turn(turn++, 2) && std::string_view(plan) != "none") continue;
      Model model = fresh(), teacher = other(3);
      TextBatches sampler(BatchSampler(corpus, 32, 1));
      StepSettings s = step_settings(of(teacher), 0.5f);
      s.recompute = recompute_plan(plan);
      s.type = type;
      s.accumulate = 2;
      Trainer trainer(*model.transformer, sampler, s);
      for (int64_t step = 0; step < 2; ++step) trainer.step(step);
      for (auto& [name, values] : after(model)) {
        const std::string key = name + (type == DType::f32 ? "/f32" : "/bf16");
        if (std::string_view(plan) == "none")
          expected[key] = values;
        else
          CHECK(relative_error(values, expected.at(key)) == 0.0);
      }
    }
  }
}

TEST_CASE("predictions in a file say what the teacher says of a position with half a window or more before it") {
  const Scratch scratch;
  const std::string path = scratch / "cache";
  const Corpus corpus = text().slice(0, 999);
  Model teacher = other(3), student = fresh();
  const TeacherCacheKey key = {fingerprint(corpus), "a teacher", 32, 1.5, 256};
  write_teacher_cache(path, key, *teacher.transformer, corpus, DType::f32);
  CHECK(static_cast<double>(std::filesystem::file_size(path)) ==
        doctest::Approx(teacher_cache_bytes(998, 256, 256)).epsilon(0.01));
  const auto kept = cached_teacher(path, key, 256);
  // Positions 16 to 31 of the window that begins at 32 are taken from it: with all tokens kept, both say the same.
  std::vector<int32_t> ids(32), targets(32, -1);
  corpus.copy(32, 32, ids.data());
  for (size_t i = 16; i < 32; ++i) targets[i] = 0;
  const std::vector<int64_t> starts = {32};
  const Tensor hidden =
      student.transformer->hidden(ids, student.transformer->call(Batch::whole(1, 32), DType::f32)).value();
  const auto loss = [&](const Teacher& from, int64_t) {
    const auto answer = from.answer({ids, starts, DType::f32}, false);
    return static_cast<double>(
        ops::divergence_head("teacher", Var(hidden), student.transformer->head(), *answer.predictions, 1.5f, targets, 1)
            .value.value()
            .data<float>()[0]);
  };
  const double exact = loss(*of(teacher), 0);
  CHECK(exact > 0.05);
  CHECK(loss(*kept, 0) == doctest::Approx(exact).epsilon(3e-3));
  // With fewer, the rest is one outcome: less is seen, and never more.
  TeacherCacheKey fewer = key;
  fewer.top = 8;
  write_teacher_cache(scratch / "fewer", fewer, *teacher.transformer, corpus, DType::f32);
  const double part = loss(*cached_teacher(scratch / "fewer", fewer, 256), 0);
  CHECK(part < exact * 1.001);
  CHECK(part > 0.1 * exact);
}

TEST_CASE("a file of other predictions, or a damaged one, is refused") {
  const Scratch scratch;
  const std::string path = scratch / "cache";
  const Corpus corpus = text().slice(0, 300);
  Model teacher = other(3);
  const TeacherCacheKey key = {fingerprint(corpus), "a teacher", 32, 1, 4};
  write_teacher_cache(path, key, *teacher.transformer, corpus, DType::f32);
  TeacherCacheKey another = key;
  another.teacher = "another";
  CHECK_THROWS_WITH_AS(cached_teacher(path, another, 256), doctest::Contains("another teacher"), Error);
  another = key;
  another.context = 64;
  CHECK_THROWS_WITH_AS(cached_teacher(path, another, 256), doctest::Contains("another context"), Error);
  const auto size = static_cast<int64_t>(std::filesystem::file_size(path));
  // A byte of the magic, the length, the header, and the arrays; then files that end early.
  for (const int64_t at : {int64_t{2}, int64_t{18}, int64_t{22}, int64_t{40}, size - 5}) {
    CAPTURE(at);
    const std::string bad = scratch / "bad";
    std::filesystem::copy_file(path, bad, std::filesystem::copy_options::overwrite_existing);
    std::fstream file(bad, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const int byte = file.get();
    file.seekp(at);
    file.put(static_cast<char>(byte ^ 0x55));
    file.close();
    CHECK_THROWS_AS(cached_teacher(bad, key, 256), Error);
    std::filesystem::copy_file(path, bad, std::filesystem::copy_options::overwrite_existing);
    std::filesystem::resize_file(bad, static_cast<uintmax_t>(at));
    CHECK_THROWS_AS(cached_teacher(bad, key, 256), Error);
  }
}
