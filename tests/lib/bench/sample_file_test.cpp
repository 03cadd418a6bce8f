#include "bench/sample_file.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <fstream>

#include "dataset/tokenizer.h"
#include "support/failure.h"
#include "support/scratch.h"

using namespace hone;
using test::failure;
using test::Scratch;

namespace {

nlohmann::json two_models() {
  return {{"models", {"a", "b"}}};
}

std::string digest(const std::string& prompt, size_t label, int64_t context) {
  const QuestionFile file = {"q", {{.prompt = prompt, .answers = {"b", "cd"}, .label = label, .id = 7}}};
  return digest_of(tokenize_questions({file}, make_tokenizer({{"kind", "bytes"}}), context, 0));
}

}  // namespace

TEST_CASE("scores of groups are found again, of their model alone, with what had been counted by then") {
  const Scratch scratch;
  const std::array<size_t, 2> first = {3, 0}, second = {1, 2}, other = {3, 1};
  {
    AttentionMeter meter{.visible_pairs = 10, .causal_pairs = 20};
    EvaluateSettings settings;
    settings.attention = &meter;
    SampleFile file(scratch / "s", two_models(), false);
    CHECK(file.found() == 0);
    file.begin(1, settings);
    CHECK(settings.log->find(first) == nullptr);
    settings.log->add(first, {.model = {{.loss = std::nextafter(1.0, 2), .correct = 1, .tokens = 2, .bytes = 3},
                                        {.loss = std::nan(""), .tokens = 4}},
                              .baseline = {{.loss = 0.5}, {.loss = 0.25}},
                              .divergences = {{.kl = 0.125, .agree = 1, .tokens = 2}, {.kl = std::nan("")}}});
    meter.visible_pairs = 15;
    settings.log->add(second, {.model = {{.loss = 2}, {.loss = 3}}, .baseline = {}, .divergences = {}});
  }
  std::ofstream(scratch / "s.part", std::ios::app) << R"({"model":0,"win)";  // half a line
  AttentionMeter meter;
  EvaluateSettings settings;
  settings.attention = &meter;
  SampleFile file(scratch / "s", two_models(), false);
  CHECK(file.found() == 4);
  file.begin(0, settings);
  CHECK(settings.log->find(first) == nullptr);
  CHECK(meter.visible_pairs == 0);
  file.begin(1, settings);
  CHECK(meter.visible_pairs == 15);
  CHECK(meter.causal_pairs == 20);
  CHECK(settings.log->find(other) == nullptr);  // begins as the first does
  const GroupScores* found = settings.log->find(first);
  REQUIRE(found);
  REQUIRE(found->model.size() == 2);
  CHECK(found->model[0].loss == std::nextafter(1.0, 2));
  CHECK(found->model[0].correct == 1);
  CHECK(found->model[0].bytes == 3);
  CHECK(std::isnan(found->model[1].loss));
  REQUIRE(found->baseline.size() == 2);
  CHECK(found->baseline[1].loss == 0.25);
  REQUIRE(found->divergences.size() == 2);
  CHECK(found->divergences[0].agree == 1);
  CHECK(std::isnan(found->divergences[1].kl));
  found = settings.log->find(second);
  REQUIRE(found);
  CHECK(found->model[1].loss == 3);
  CHECK(found->baseline.empty());
  file.remove();
  CHECK(scratch.files() == 0);
}

TEST_CASE("lines of samples that are none are refused with their number") {
  const Scratch scratch;
  const std::string score = "[1,0,1,1,0,-1]", counted = R"(,"counted":{}})",
                    begin = R"({"model":0,"windows":[1],"scores":[)";
  for (const std::string& line :
       {std::string("no json"), std::string("[]"), std::string(R"({"model":2})"),
        R"({"model":0,"windows":[],"scores":[])" + counted, begin + "]" + counted, begin + "[1,0,1]]" + counted,
        begin + score + R"(],"baseline":[)" + score + "," + score + "]" + counted, begin + score + "]}",
        begin + score + R"(],"counted":[]})", begin + score + R"(],"counted":{"model":{"attention":[1]}}})",
        begin + score + R"(],"counted":{"baseline":{"routing":[[1]]}}})"}) {
    CAPTURE(line);
    std::ofstream(scratch / "s.part") << two_models().dump() + "\n" + line + "\n";
    CHECK(failure([&] { SampleFile(scratch / "s", two_models(), false); }) ==
          "3 '" + (scratch / "s") + ".part' is damaged (line 2); have it begun anew");
  }
}

TEST_CASE("a digest of questions tells what is scored") {
  const std::string one = digest("some text", 1, 100);
  CHECK(digest("some text", 1, 100) == one);
  CHECK(digest("some test", 1, 100) != one);
  CHECK(digest("some text", 0, 100) != one);
  CHECK(digest("some text", 1, 4) != one);  // of which less is read
}
