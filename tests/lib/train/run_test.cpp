// What a run keeps and gives back: the best parameters, its place after a signal, its lineage, what it refuses.
#include "train/run.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/stop.h"
#include "compress/gradual.h"
#include "lib/train/runs.h"
#include "measure/evaluate.h"
#include "media/medium.h"
#include "train/fingerprint.h"

using namespace hone;
using namespace hone::test;

namespace {

Corpus digits() {
  std::string text;
  for (int i = 0; i < 300; ++i) text += std::to_string(i * i) + " ";
  std::vector<TextSource> sources;
  sources.push_back(text_in_memory(text, "digits"));
  return open_corpus(std::move(sources), byte_tokenizer());
}

// At this rate the loss on other text (digits) soon rises.
RunSettings rising(int64_t steps) {
  RunSettings s = settings(steps);
  s.step.schedule = {&schedule_named("constant"), 0.02, 0.1, 1, steps, 0.2};
  s.valid_every = 1;
  s.keep_best = true;
  return s;
}

double score(Model& model, const Corpus& text, const RunSettings& s) {
  EvaluateSettings e;
  e.context = e.stride = s.context;
  e.type = s.step.type;
  return evaluate(*model.transformer, text, e).loss();
}

// Writes what validates at each step, where a test looks for it.
std::map<int64_t, double> validations(const std::string& log) {
  std::map<int64_t, double> found;
  std::istringstream lines(read_text_file(log));
  for (std::string line; std::getline(lines, line);) {
    const auto object = nlohmann::json::parse(line);
    if (object.contains("valid_loss")) found[object["step"]] = object["valid_loss"];
  }
  return found;
}

}  // namespace

TEST_CASE("patience ends a run, and a resumed run stays ended") {
  const std::string path = "train_test_patience.h5";
  Model model = fresh();
  const Corpus corpus = text();
  RunSettings s = settings(100);
  s.valid_every = 5;
  s.patience = 2;
  s.checkpoint = path;
  s.step.schedule = {&schedule_named("constant"), 0.0, 0.1, 0, 100, 0.2};  // nothing is learned, so nothing improves
  const RunResult result = run_training(model, corpus, &corpus, s);
  CHECK(result.stopped_early);
  CHECK(result.steps == 15);
  CHECK(result.valid_loss.has_value());
  ModelFile rest;
  Model again = load_model(path, {.run = true}, &rest);
  const RunResult resumed = run_training(again, corpus, &corpus, s, &rest);
  CHECK(resumed.stopped_early);
  CHECK(resumed.steps == 15);
  CHECK(resumed.valid_loss == result.valid_loss);
  std::remove(path.c_str());
}

TEST_CASE("the best validation's parameters are kept, and what is reported is theirs") {
  const std::string log = "train_test_best.jsonl";
  const Corpus valid = digits();
  Model model = fresh();
  RunSettings s = rising(12);
  RunResult result;
  {
    Journal journal(log, "");
    s.journal = &journal;
    result = run_training(model, text(), &valid, s);
  }
  const auto losses = validations(log);
  const auto best =
      std::min_element(losses.begin(), losses.end(), [](auto& a, auto& b) { return a.second < b.second; });
  REQUIRE(losses.size() == 12);
  REQUIRE(best->first < 12);  // this test needs a best step before the last
  CHECK(result.kept_step == best->first);
  CHECK(result.valid_loss == best->second);
  CHECK(score(model, valid, s) == best->second);
  // They are those of a run that ended at that step.
  Model shorter = fresh();
  s.journal = nullptr;
  s.before_step = [&](int64_t step) {
    if (step == best->first) raise_stop(2);
  };
  s.keep_best = false;
  run_training(shorter, text(), &valid, s);
  raise_stop(0);
  CHECK(equal(after(shorter), after(model)));
  std::remove(log.c_str());
}

TEST_CASE("while a model is being pruned no validation competes") {
  const Corpus valid = digits();
  const GradualSettings gradual = {parse_pattern("unstructured"), 0.5, 0, 0.7, 1, 12};
  for (const bool patient : {false, true}) {
    Model model = fresh();
    const GradualPruning pruning(*model.transformer, gradual);
    RunSettings s = rising(12);
    s.patience = patient ? 1 : 0;
    s.before_step = [&](int64_t step) { pruning.before_step(step); };
    s.competes_after = pruning.last_pruning();
    const RunResult result = run_training(model, text(), &valid, s);
    CHECK(result.kept_step > pruning.last_pruning());
    CHECK(result.steps > pruning.last_pruning() + 1);
    CHECK(size_of(*model.transformer).sparsity() > 0.4);
    CHECK(score(model, valid, s) == *result.valid_loss);
  }
}

TEST_CASE("a signal without a checkpoint keeps the best; with one the checkpoint has everything") {
  const Corpus valid = digits();
  const auto stopped_at = [](int64_t at) {
    return [at](int64_t step) {
      if (step == at) raise_stop(15);
    };
  };
  Model best = fresh();
  const RunResult whole = run_training(best, text(), &valid, rising(12));
  Model model = fresh();
  RunSettings s = rising(12);
  s.before_step = stopped_at(whole.kept_step + 2);
  const RunResult result = run_training(model, text(), &valid, s);
  raise_stop(0);
  CHECK(result.signal == 15);
  CHECK(!result.checkpoint_saved);
  CHECK(result.kept_step == whole.kept_step);
  CHECK(equal(after(model), after(best)));
}

TEST_CASE("a signal during a validation: the resumed run does it and ends as one that never stopped") {
  const std::string path = "train_test_validation.h5", log = "train_test_validation.jsonl";
  const Corpus valid = digits();
  const auto run = [&](Model& model, const ModelFile* resume, bool stop) {
    RunSettings s = rising(12);
    s.checkpoint = path;
    Journal journal(log, "", resume ? std::optional(step_of_run(*resume)) : std::nullopt);
    s.journal = &journal;
    s.before_step = [&](int64_t step) {
      if (stop && step == 5) raise_stop(2);
    };
    return run_training(model, text(), &valid, s, resume);
  };
  Model straight = fresh();
  const RunResult whole = run(straight, nullptr, false);
  const auto expected = validations(log);
  Model stopped = fresh();
  CHECK(run(stopped, nullptr, true).steps == 5);
  raise_stop(0);
  // As if the signal had come a moment earlier, in the validation of step 5.
  ModelFile rest;
  Model resumed = load_model(path, {.run = true}, &rest);
  (*rest.run)["validated"] = 4;
  const RunResult end = run(resumed, &rest, false);
  CHECK(end.valid_loss == whole.valid_loss);
  CHECK(end.kept_step == whole.kept_step);
  CHECK(equal(after(straight), after(resumed)));
  CHECK(validations(log) == expected);
  std::remove(path.c_str());
  std::remove(log.c_str());
}

TEST_CASE("input that fails in the middle leaves a checkpoint from which the run goes on as if nothing had been") {
  const std::string path = "train_test_input.h5";
  RunSettings s = settings(6);
  Model straight = fresh();
  run_training(straight, text(), nullptr, s);
  RunSettings failing = s;
  failing.checkpoint = path;
  failing.before_step = [](int64_t step) {
    if (step == 4) throw input_error("a line cannot be read");
  };
  Model model = fresh();
  CHECK_THROWS_WITH_AS(run_training(model, text(), nullptr, failing), "a line cannot be read", Error);
  ModelFile rest;
  Model resumed = load_model(path, {.run = true}, &rest);
  CHECK(step_of_run(rest) == 4);
  run_training(resumed, text(), nullptr, s, &rest);
  CHECK(equal(after(straight), after(resumed)));
  std::remove(path.c_str());
}

TEST_CASE("a checkpoint says how far its run has come, and a resumed run's lineage is without that") {
  const std::string path = "train_test_lineage.h5";
  Model model = fresh();
  model.lineage.push_back({{"tool", "prune"}});
  RunSettings s = settings(5);
  s.checkpoint = path;
  s.stage = {{"tool", "train"}, {"results", nullptr}};
  run_training(model, text(), nullptr, s);
  const Model saved = load_model(path);
  REQUIRE(saved.lineage.size() == 2);
  CHECK(saved.lineage[1]["unfinished"] == true);
  CHECK(saved.lineage[1]["results"]["steps"] == 5);
  CHECK(lineage_before_run(saved.lineage) == model.lineage);
  CHECK(lineage_before_run(model.lineage) == model.lineage);
  std::remove(path.c_str());
}

TEST_CASE("a checkpoint that cannot be written costs the run nothing else") {
  Model model = fresh(), straight = fresh();
  RunSettings s = settings(6);
  run_training(straight, text(), nullptr, s);
  s.checkpoint = "no-such-folder/c.h5";
  s.save_every = 2;
  const RunResult result = run_training(model, text(), nullptr, s);
  CHECK(result.steps == 6);
  CHECK(result.checkpoint_missing.starts_with("no checkpoint at step 6: "));
  CHECK(result.checkpoint_missing.find("no-such-folder") != std::string::npos);
  CHECK(!result.checkpoint_saved);
  CHECK(equal(after(straight), after(model)));
}

TEST_CASE("a checkpoint that could not be written is not missing once a later one was") {
  const std::string folder = fmt::format("run-test-later-{}", getpid()), path = folder + "/c.h5";
  Model model = fresh();
  RunSettings s = settings(6);
  s.checkpoint = path;
  s.save_every = 2;
  int64_t steps = 0;
  s.before_step = [&](int64_t) {
    if (++steps == 4) std::filesystem::create_directory(folder);  // behind the first checkpoint, before the second
  };
  const RunResult result = run_training(model, text(), nullptr, s);
  CHECK(result.steps == 6);
  CHECK(result.checkpoint_missing.empty());
  CHECK(result.checkpoint_saved);
  CHECK(std::filesystem::exists(path));
  std::filesystem::remove_all(folder);
}

TEST_CASE("what a run would refuse is refused before it begins") {
  Model model = fresh();
  const Corpus corpus = text();
  const Corpus one = corpus.slice(0, 1), short_text = corpus.slice(0, 32);
  CHECK_NOTHROW(check_run(*model.transformer, corpus, &corpus, settings(5)));
  CHECK_THROWS_AS(check_run(*model.transformer, corpus, &one, settings(5)), Error);
  CHECK_THROWS_AS(check_run(*model.transformer, short_text, nullptr, settings(5)), Error);
}

TEST_CASE("texts of the same length have other fingerprints") {
  const Corpus a = text();
  CHECK(fingerprint(a.slice(0, 100)) == fingerprint(a.slice(24, 100)));  // the same words again
  CHECK(fingerprint(a.slice(0, 100)) != fingerprint(a.slice(1, 100)));
  CHECK(fingerprint(a.slice(0, 100)) != fingerprint(a.slice(0, 101)));
}

TEST_CASE("lines are alike where other files stand under the names in them, and their files are not") {
  const std::string path =
      (std::filesystem::temp_directory_path() / fmt::format("hone-fingerprint-{}", getpid())).string();
  Examples lines;
  lines.all.resize(2);
  lines.all[0].parts = {{all_media().front(), path}};
  lines.all[1].parts = {{all_media().front(), path}, {nullptr, "behind it"}};
  const std::string same = fingerprint(lines), missing = fingerprint_of_files(lines);
  std::ofstream(path) << "one";
  const std::string one = fingerprint_of_files(lines);
  std::ofstream(path) << "two";
  CHECK(fingerprint_of_files(lines) != one);
  CHECK(one != missing);
  CHECK(fingerprint(lines) == same);
  std::ofstream(path) << "one";
  CHECK(fingerprint_of_files(lines) == one);
  std::filesystem::remove(path);
}
