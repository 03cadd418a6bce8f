#include "dataset/corpus.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "base/error.h"
#include "base/random.h"
#include "dataset/bpe.h"
#include "kernels/parallel.h"

using hone::Corpus;
using hone::Error;
using hone::ErrorKind;
using hone::TextSource;

namespace {

// A file of several documents, as JSONL gives them.
TextSource file_of(const std::vector<std::string>& documents, std::string name = "test") {
  auto owner = std::make_shared<const std::vector<std::string>>(documents);
  TextSource source{std::move(name), {owner->begin(), owner->end()}, owner};
  return source;
}

std::vector<int32_t> tokens_of(const Corpus& corpus, int64_t begin, int64_t count) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  corpus.copy(begin, count, ids.data());
  return ids;
}

std::vector<int32_t> tokens_of(const Corpus& corpus) {
  return tokens_of(corpus, 0, corpus.size());
}

std::string prose(uint64_t seed, size_t bytes) {
  hone::Random random(seed, "prose");
  std::string text;
  while (text.size() < bytes) {
    for (uint64_t n = 2 + random.below(7); n > 0; --n) text += static_cast<char>('a' + random.below(5));
    const char* gaps[] = {" ", " ", " ", " ", ", ", ".\n", "\n\n", "  ", " 42 ", "\xff"};
    text += gaps[random.below(10)];
  }
  return text;
}

std::shared_ptr<const hone::Tokenizer> small_bpe() {
  const std::string text = prose(1, 20000);
  const std::string_view texts[] = {text};
  return hone::train_bpe(texts, {.vocabulary = 500});
}

std::string message_of(const std::function<void()>& f, ErrorKind kind) {
  try {
    f();
  } catch (const Error& error) {
    CHECK(error.kind() == kind);
    return error.what();
  }
  FAIL("nothing was thrown");
  return "";
}

}  // namespace

TEST_CASE("bytes of several documents and files are one row with separators, from any place to any other") {
  const Corpus corpus =
      hone::open_corpus({file_of({"abc", "d"}, "one"), file_of({"ef"}, "two")}, hone::byte_tokenizer());
  const std::string joined("abc\0d\0ef", 8);
  REQUIRE(corpus.size() == 8);
  CHECK(corpus.name() == "one and 1 more");
  for (int64_t begin = 0; begin <= 8; ++begin) {
    for (int64_t count = 0; begin + count <= 8; ++count) {
      const auto ids = tokens_of(corpus, begin, count);
      CHECK(corpus.tokenizer().decode(ids) == joined.substr(static_cast<size_t>(begin), static_cast<size_t>(count)));
      CHECK(corpus.bytes(begin, count) == count);
    }
  }
}

TEST_CASE("the tokens of a BPE corpus are those of its documents, whatever the threads and the size of documents") {
  const auto tokenizer = small_bpe();
  std::vector<std::string> documents = {prose(2, 10), prose(3, 2 << 20), prose(4, 300000)};
  for (uint64_t i = 0; i < 200; ++i) documents.push_back(prose(100 + i, 1 + i * 20));
  std::vector<int32_t> expected;
  int64_t bytes = -1;
  for (const auto& document : documents) {
    if (!expected.empty()) expected.push_back(hone::document_separator);
    for (const int32_t id : tokenizer->encode(document)) expected.push_back(id);
    bytes += static_cast<int64_t>(document.size()) + 1;
  }
  const int threads = hone::kernels::threads();
  for (const int count : {1, 3}) {
    hone::kernels::set_threads(count);
    const Corpus corpus = hone::open_corpus({file_of(documents)}, tokenizer);
    CHECK(tokens_of(corpus) == expected);
    CHECK(corpus.bytes(0, corpus.size()) == bytes);
  }
  hone::kernels::set_threads(threads);
}

TEST_CASE("vocabularies above 65536 keep their ids") {
  std::vector<hone::Merge> merges;
  for (int32_t a = 0; a < 256; ++a)
    for (int32_t b = 0; b < 256; ++b) merges.emplace_back(a, b);
  const Corpus corpus = hone::open_corpus({file_of({"\xff\xff"})}, hone::make_bpe(merges));
  CHECK(tokens_of(corpus) == std::vector<int32_t>{255 * 256 + 255 + 256});
  CHECK(corpus.bytes(0, 1) == 2);
}

TEST_CASE("slices see their part and count from its start") {
  for (const auto& tokenizer : {hone::byte_tokenizer(), small_bpe()}) {
    const Corpus corpus = hone::open_corpus({file_of({prose(5, 3000), prose(6, 100)})}, tokenizer);
    const auto all = tokens_of(corpus);
    const Corpus part = corpus.slice(50, 300).slice(20, 200);
    CHECK(part.size() == 200);
    CHECK(tokens_of(part) == std::vector<int32_t>(all.begin() + 70, all.begin() + 270));
    CHECK(part.bytes(5, 10) == corpus.bytes(75, 10));
    int32_t out[4];
    CHECK_THROWS_AS(part.copy(198, 3, out), Error);
    CHECK_THROWS_AS(part.copy(-1, 3, out), Error);
    CHECK_THROWS_AS(part.bytes(0, 201), Error);
    CHECK_THROWS_AS(part.slice(1, INT64_MAX), Error);
  }
}

TEST_CASE("the last part validates") {
  const Corpus corpus = hone::open_corpus({file_of({prose(7, 1000)}, "book.txt")}, hone::byte_tokenizer());
  const int64_t n = corpus.size();
  const auto [train, valid] = hone::split_corpus(corpus, 0.1);
  CHECK(train.size() == static_cast<int64_t>(0.9 * static_cast<double>(n)));
  CHECK(train.size() + valid.size() == n);
  const auto all = tokens_of(corpus);
  CHECK(tokens_of(valid) == std::vector<int32_t>(all.begin() + train.size(), all.end()));
  CHECK(valid.name() == "book.txt (the last 10%)");
  for (const double bad : {0.0, 1.0, -0.1, 2.0, std::nan("")}) {
    CHECK(message_of([&] { hone::split_corpus(corpus, bad); }, ErrorKind::usage).find("between 0 and 1") !=
          std::string::npos);
  }
}

TEST_CASE("a split before tokenizing is the split of bytes, and leaves no token across it") {
  const std::string text = prose(7, 3000);
  const auto bytes = hone::open_split_corpus({file_of({text}, "book.txt")}, hone::byte_tokenizer(), 0.1);
  const auto [train, valid] = hone::open_split_corpus({file_of({text}, "book.txt")}, small_bpe(), 0.1);
  const auto decoded = [](const Corpus& corpus) { return corpus.tokenizer().decode(tokens_of(corpus)); };
  CHECK(decoded(train) == decoded(bytes.first));
  CHECK(decoded(valid) == decoded(bytes.second));
  CHECK(tokens_of(valid) == valid.tokenizer().encode(text.substr(static_cast<size_t>(bytes.first.size()))));
  CHECK(valid.name() == "book.txt (the last 10%)");
  CHECK(bytes.second.name() == valid.name());
  CHECK(message_of([&] { hone::open_split_corpus({file_of({"ab"}, "x")}, small_bpe(), 0.9); }, ErrorKind::input)
            .find("x is too short") != std::string::npos);
}

TEST_CASE("a corpus too short for a window is refused with its name, its tokens and what is needed") {
  const Corpus corpus = hone::open_corpus({file_of({"sixteen letters."}, "short.txt")}, hone::byte_tokenizer());
  CHECK_NOTHROW(hone::require_window(corpus, 15));
  const std::string message = message_of([&] { hone::require_window(corpus, 16); }, ErrorKind::input);
  CHECK(message.find("short.txt has 16 tokens (bytes)") != std::string::npos);
  CHECK(message.find("needs 17") != std::string::npos);
}
