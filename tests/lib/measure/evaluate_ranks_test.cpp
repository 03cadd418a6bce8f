// Scores of models that ranks have in parts, as threads here: those of one process.
#include <doctest/doctest.h>

#include "base/random.h"
#include "comm/thread_ranks.h"
#include "dataset/corpus.h"
#include "measure/evaluate.h"
#include "support/models.h"

using namespace hone;
using namespace hone::test;

namespace {

Corpus letters(size_t bytes) {
  Random random(3, "text");
  std::string text;
  while (text.size() < bytes) text += static_cast<char>('a' + random.below(20));
  std::vector<TextSource> sources;
  sources.push_back(text_in_memory(text, "test"));
  return open_corpus(std::move(sources), byte_tokenizer());
}

std::unique_ptr<Transformer> model_with(const std::vector<LayerBlueprint>& layers, uint64_t seed,
                                        const ModelRanks& ranks = {}, int64_t padded = 256) {
  Config config = small_config();
  config.vocabulary = 250;
  config.padded_vocabulary = padded;
  config.layers = layers;
  auto model = std::make_unique<Transformer>(config, ranks);
  initialize(*model, seed, 0.2);
  return model;
}

}  // namespace

TEST_CASE("a model in parts is compared with a baseline in parts, or with one that every rank has whole") {
  const std::vector<LayerBlueprint> layers = {{4, 2, 96, "full"}, {2, 2, 64, "full"}}, odd = {{3, 3, 33, "full"}};
  const Corpus text = letters(300);
  EvaluateSettings settings;
  settings.context = 48;
  settings.stride = 32;
  // Of a whole one the ends of rows are padded to fewer or more tokens than the parts.
  for (const int64_t padded : {256, 250, 300}) {
    const bool whole = padded != 256;
    CAPTURE(padded);
    const std::vector<LayerBlueprint>& other = whole ? odd : layers;
    const PairedScores expected =
        evaluate_pair(*model_with(layers, 1), *model_with(other, 2, {}, padded), text, settings);
    run_thread_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) {
      const ModelRanks parts(division_named("tensor"), ranks);
      const auto model = model_with(layers, 1, parts),
                 baseline = model_with(other, 2, whole ? ModelRanks() : parts, padded);
      const PairedScores scores = evaluate_pair(*model, *baseline, text, settings);
      CHECK(scores.model.loss() == doctest::Approx(expected.model.loss()).epsilon(1e-5));
      CHECK(scores.baseline.loss() == doctest::Approx(expected.baseline.loss()).epsilon(1e-5));
      REQUIRE(scores.divergences.size() == expected.divergences.size());
      for (size_t i = 0; i < scores.divergences.size(); ++i) {
        CHECK(scores.divergences[i].tokens == expected.divergences[i].tokens);
        CHECK(scores.divergences[i].kl == doctest::Approx(expected.divergences[i].kl).epsilon(1e-3));
      }
    });
  }
}
