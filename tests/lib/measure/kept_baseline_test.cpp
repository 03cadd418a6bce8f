#include "measure/kept_baseline.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/random.h"
#include "dataset/corpus.h"
#include "support/models.h"

using namespace hone;
using namespace hone::test;

namespace {

Corpus some_text(size_t bytes) {
  Random random(3, "text");
  std::string text;
  while (text.size() < bytes) text += static_cast<char>('a' + random.below(20));
  std::vector<TextSource> sources;
  sources.push_back(text_in_memory(text, "test"));
  return open_corpus(std::move(sources), byte_tokenizer());
}

std::unique_ptr<Transformer> model_of(uint64_t seed, int64_t padded = 256) {
  Config config = small_config();
  config.vocabulary = 256;
  config.padded_vocabulary = padded;
  auto model = std::make_unique<Transformer>(config);
  initialize(*model, seed, 0.2);
  return model;
}

// Leaves nothing of the blocks that could be run again.
void break_blocks(Transformer& model) {
  struct Breaker : Visitor {
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      if (info.layer >= 0) spoil(*weight->parameter());
    }
    void parameter(const ParameterInfo& info, Parameter& parameter) override {
      if (info.layer >= 0) spoil(parameter);
    }
    static void spoil(Parameter& p) {
      for (float& x : p.value.span<float>()) x = std::numeric_limits<float>::quiet_NaN();
      ++p.version;
    }
  } breaker;
  model.visit(breaker);
}

bool same(const Scores& a, const Scores& b) {
  if (a.windows().size() != b.windows().size()) return false;
  for (size_t i = 0; i < a.windows().size(); ++i) {
    const WindowScore &x = a.windows()[i], &y = b.windows()[i];
    if (x.loss != y.loss || x.correct != y.correct || x.tokens != y.tokens || x.bytes != y.bytes) return false;
  }
  return true;
}

}  // namespace

TEST_CASE(
    "a baseline that was scored once gives the numbers of one that runs beside each model, and is not run again") {
  const Corpus text = some_text(700);
  for (const DType type : {DType::f32, DType::bf16})
    for (const int64_t chunk : {int64_t{0}, int64_t{20}}) {
      CAPTURE(name_of(type));
      CAPTURE(chunk);
      EvaluateSettings settings;
      settings.context = 48;
      settings.stride = 32;  // windows overlap: not every row is scored
      settings.chunk = chunk;
      settings.type = type;
      AttentionMeter beside, once;
      settings.baseline_attention = &beside;
      const auto baseline = model_of(1, 288), first = model_of(2), second = model_of(3);
      const PairedScores a = evaluate_pair(*first, *baseline, text, settings);
      const PairedScores b = evaluate_pair(*second, *baseline, text, settings);

      settings.baseline_attention = &once;
      KeptRows kept(baseline->config().block.dim, type);
      REQUIRE(kept.reserve(scored_tokens(text, settings)));
      const Scores scores = score_baseline(*baseline, text, settings, kept);
      CHECK(same(scores, a.baseline));
      CHECK(scores.tokens() == scored_tokens(text, settings));
      CHECK(once.fraction() == beside.fraction());
      break_blocks(*baseline);
      for (const auto& [model, expected] : {std::pair{first.get(), &a}, {second.get(), &b}}) {
        const PairedScores got = evaluate_against(*model, *baseline, scores, kept, text, settings);
        CHECK(same(got.model, expected->model));
        CHECK(same(got.baseline, expected->baseline));
        REQUIRE(got.divergences.size() == expected->divergences.size());
        for (size_t i = 0; i < got.divergences.size(); ++i) {
          CHECK(got.divergences[i].kl == expected->divergences[i].kl);
          CHECK(got.divergences[i].agree == expected->divergences[i].agree);
        }
      }
    }
}

TEST_CASE("kept rows come back as they were, wherever they lie") {
  KeptRows kept(3, DType::f32);
  REQUIRE(kept.reserve(100));
  kept.write(97, Tensor::of({2, 3}, {1, 2, 3, 4, 5, 6}));
  const Tensor back = kept.read(98, 1);
  CHECK(back.shape() == Shape{1, 3});
  CHECK(back.data<float>()[0] == 4);
  CHECK(back.data<float>()[2] == 6);
  CHECK_FALSE(kept.reserve(std::numeric_limits<int64_t>::max() / 64));
}
