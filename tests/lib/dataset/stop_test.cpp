#include <doctest/doctest.h>

#include "base/random.h"
#include "dataset/bpe.h"
#include "dataset/corpus.h"
#include "dataset/tokenizer.h"
#include "support/stopping.h"

using namespace hone;
using test::Stopping;

TEST_CASE("a signal ends the learning of a vocabulary and the cutting of a text into tokens") {
  const std::string text = "the quick brown fox jumps over the lazy dog, the quick brown fox again";
  const std::vector<std::string_view> texts = {text};
  const auto tokenizer = train_tokenizer(parse_tokenizer_spec("bpe:260"), texts);
  CHECK(open_corpus({text_in_memory(text, "text")}, tokenizer).size() > 10);
  const Stopping stopping;
  CHECK_THROWS_AS(learn_merges(texts, BpeOptions()), Stopped);
  CHECK_THROWS_AS(open_corpus({text_in_memory(text, "text")}, tokenizer), Stopped);
  CHECK_THROWS_AS(tokenizer->encode(text), Stopped);
}
