// Documents of a corpus, and texts whose documents change places.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "dataset/batches.h"
#include "support/check.h"
#include "support/scratch.h"

using namespace hone;

namespace {

const std::string chapters = "one\nand one\n\ntwo\n\n\nthree\r\n\r\nfour\n\n";

Corpus of(std::vector<TextSource> sources, std::shared_ptr<const Tokenizer> tokenizer = byte_tokenizer()) {
  return open_corpus(std::move(sources), std::move(tokenizer));
}

std::string text_of(const Corpus& corpus, int64_t begin, int64_t count) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  corpus.copy(begin, count, ids.data());
  return corpus.tokenizer().decode(ids);
}

std::vector<std::string> documents(const Corpus& corpus) {
  std::vector<int64_t> starts = corpus.document_starts();
  starts.push_back(corpus.size());
  std::vector<std::string> all;
  for (size_t i = 0; i + 1 < starts.size(); ++i) all.push_back(text_of(corpus, starts[i], starts[i + 1] - starts[i]));
  return all;
}

TextSource records(const std::vector<std::string>& texts) {
  test::Scratch scratch;
  std::string lines;
  for (const std::string& text : texts) lines += nlohmann::json({{"text", text}}).dump() + "\n";
  const std::string path = scratch / "a.jsonl";
  std::ofstream(path) << lines;
  return open_text(path);
}

}  // namespace

TEST_CASE("plain text is cut behind blank lines, records are whole, files are apart") {
  const std::vector<std::string> parts = {"one\nand one\n\n", "two\n\n\n", "three\r\n\r\n", "four\n\n"};
  CHECK(documents(of({text_in_memory(chapters, "a")})) == parts);
  const std::string end(1, '\0');
  CHECK(documents(of({records({"a\n\nb", "c", "d"}), text_in_memory("x\n\ny", "b")})) ==
        std::vector<std::string>{"a\n\nb" + end, "c" + end, "d" + end, "x\n\n", "y"});
  CHECK(documents(of({text_in_memory(chapters, "a")}).slice(6, 20)) ==
        std::vector<std::string>{"d one\n\n", "two\n\n\n", "three\r\n"});
}

TEST_CASE("tokens of several letters: boundaries lie between them, and nothing is lost") {
  std::string all;
  for (int i = 0; i < 50; ++i) all += chapters;
  const std::string_view texts[] = {all};
  const auto tokenizer = train_tokenizer(parse_tokenizer_spec("bpe:300"), texts);
  const Corpus corpus = of({text_in_memory(all, "a")}, tokenizer);
  const std::vector<std::string> parts = documents(corpus);
  CHECK(parts.size() >= 150);
  std::string joined;
  for (const std::string& part : parts) joined += part;
  CHECK(joined == all);
}

TEST_CASE("documents change places at each pass, the last one stays, and every token is there") {
  std::string all;
  for (int i = 0; i < 30; ++i) all += fmt::format("document {} {}\n\n", i, std::string(static_cast<size_t>(i), 'x'));
  const Corpus corpus = of({text_in_memory(all, "a")});
  DocumentOrder order(corpus);
  CHECK(order.documents() == 30);
  const auto read = [&](int64_t begin, int64_t count) {
    std::vector<int32_t> ids(static_cast<size_t>(count));
    order.copy(corpus, begin, count, ids.data());
    return corpus.tokenizer().decode(ids);
  };
  CHECK(read(0, corpus.size()) == all);
  std::set<std::string> seen;
  const std::vector<std::string> in_order = documents(corpus);
  for (const uint64_t key : {1u, 2u, 3u}) {
    order.shuffle(key);
    const std::string text = read(0, corpus.size());
    CHECK(seen.insert(text).second);
    std::vector<std::string> parts = documents(of({text_in_memory(text, "b")}));
    CHECK(parts.back() == in_order.back());
    std::vector<std::string> sorted = in_order;
    std::ranges::sort(parts);
    std::ranges::sort(sorted);
    CHECK(parts == sorted);
    for (int64_t begin = 0; begin + 17 <= corpus.size(); begin += 13)
      REQUIRE(read(begin, 17) == text.substr(static_cast<size_t>(begin), 17));
    order.shuffle(key);
    CHECK(read(0, corpus.size()) == text);
  }
}

TEST_CASE("batches of shuffled documents go on where they were, and windows cross documents") {
  std::string all;
  for (int i = 0; i < 40; ++i) all += fmt::format("{0}{0}{0}\n\n", static_cast<char>('!' + i));
  const Corpus corpus = of({text_in_memory(all, "a")});
  BatchSampler sampler(corpus, 8, 5, Shuffle::documents), plain(corpus, 8, 5);
  const auto draw = [](BatchSampler& from) {
    std::vector<int32_t> inputs(64), targets(64);
    from.next(inputs, targets);
    for (size_t i = 0; i < 64; ++i)
      if (i % 8 != 7) REQUIRE(targets[i] == inputs[i + 1]);
    return inputs;
  };
  int different = 0;
  for (int i = 0; i < 5; ++i) different += draw(sampler) != draw(plain);
  CHECK(different == 5);
  BatchSampler later(corpus, 8, 1, Shuffle::documents);
  later.restore(sampler.state());
  for (int i = 0; i < 10; ++i) REQUIRE(draw(later) == draw(sampler));
}

TEST_CASE("what has nothing to change places is refused") {
  CHECK_THROWS_WITH_AS(
      BatchSampler(of({text_in_memory("one line after another\n", "a.txt")}), 4, 1, Shuffle::documents),
      doctest::Contains("a.txt has 1 document, which cannot"), Error);
}
