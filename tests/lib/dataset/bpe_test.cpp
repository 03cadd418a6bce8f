#include "dataset/bpe.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <string>

#include "base/error.h"
#include "base/random.h"
#include "dataset/pretokenizer.h"
#include "kernels/parallel.h"

using hone::BpeOptions;
using hone::learn_merges;
using hone::Merge;
using hone::Pretokenizer;
using hone::Random;

namespace {

std::vector<std::string> pieces_of(std::string_view text) {
  std::vector<std::string> pieces;
  Pretokenizer().each(text, [&](std::string_view piece) { pieces.emplace_back(piece); });
  return pieces;
}

using Words = std::vector<std::vector<int32_t>>;

Words words_of(std::string_view text) {
  Words words;
  for (const auto& piece : pieces_of(text)) {
    words.emplace_back();
    for (const char c : piece) words.back().push_back(static_cast<unsigned char>(c));
  }
  return words;
}

void replace(std::vector<int32_t>& ids, Merge merge, int32_t made) {
  std::vector<int32_t> out;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i + 1 < ids.size() && ids[i] == merge.first && ids[i + 1] == merge.second) {
      out.push_back(made);
      ++i;
    } else {
      out.push_back(ids[i]);
    }
  }
  ids = out;
}

// The definition: count every pair anew for each merge.
std::vector<Merge> plain_merges(std::string_view text, int32_t vocabulary) {
  Words words = words_of(text);
  std::vector<Merge> merges;
  while (static_cast<int32_t>(merges.size()) < vocabulary - 256) {
    std::map<Merge, int64_t> counts;
    for (const auto& word : words)
      for (size_t i = 0; i + 1 < word.size(); ++i) ++counts[{word[i], word[i + 1]}];
    Merge best;
    int64_t most = 1;
    for (const auto& [pair, count] : counts) {
      if (count > most) {
        best = pair;
        most = count;
      }
    }
    if (most < 2) break;
    for (auto& word : words) replace(word, best, static_cast<int32_t>(256 + merges.size()));
    merges.push_back(best);
  }
  return merges;
}

// The definition: merge after merge, each through the whole text.
std::vector<int32_t> plain_encode(std::string_view text, const std::vector<Merge>& merges) {
  std::vector<int32_t> ids;
  for (auto word : words_of(text)) {
    for (size_t i = 0; i < merges.size(); ++i) replace(word, merges[i], static_cast<int32_t>(256 + i));
    ids.insert(ids.end(), word.begin(), word.end());
  }
  return ids;
}

// Words of few letters, so that pairs tie and overlap ("aaaa") all the time.
std::string babble(uint64_t seed, size_t bytes) {
  Random random(seed, "babble");
  std::string text;
  while (text.size() < bytes) {
    for (uint64_t n = 1 + random.below(9); n > 0; --n) text += static_cast<char>('a' + random.below(3));
    text += random.below(12) ? " " : ".\n";
  }
  return text;
}

std::string random_bytes(uint64_t seed, size_t n) {
  Random random(seed, "bytes");
  std::string text;
  for (size_t i = 0; i < n; ++i) text += static_cast<char>(random.below(256));
  return text;
}

std::vector<Merge> merges_of(const std::string& text, int32_t vocabulary) {
  const std::string_view texts[] = {text};
  return learn_merges(texts, {.vocabulary = vocabulary});
}

}  // namespace

TEST_CASE("text is cut as GPT-2 cuts it") {
  using Pieces = std::vector<std::string>;
  CHECK(pieces_of("Hello world, it's 2024!") == Pieces{"Hello", " world", ",", " it", "'s", " 2024", "!"});
  CHECK(pieces_of("a  b\n\n c\t\n") == Pieces{"a", " ", " b", "\n\n", " c", "\t\n"});
  CHECK(pieces_of("we'll you'RE x=1") == Pieces{"we", "'ll", " you", "'", "RE", " x", "=", "1"});
  CHECK(pieces_of("naïve Ωμέγα 漢字٣٤") == Pieces{"naïve", " Ωμέγα", " 漢字", "٣٤"});
  CHECK(pieces_of("a\xc2\xa0 b") == Pieces{"a", "\xc2\xa0", " b"});  // a no-break space is white space
  CHECK(pieces_of("") == Pieces{});
}

TEST_CASE("white space is what Unicode calls so") {
  using Pieces = std::vector<std::string>;
  for (const char* space :
       {"\t", "\v", "\f", "\r", "\xc2\x85", "\xc2\xa0", "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x8a", "\xe2\x80\xa8",
        "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"})
    CHECK(pieces_of(std::string("a") + space + " b") == Pieces{"a", space, " b"});
  // Neither U+180E, which once was, nor U+200B, U+2060, U+FEFF, U+001C to U+001F.
  for (const char* other : {"\xe1\xa0\x8e", "\xe2\x80\x8b", "\xe2\x81\xa0", "\xef\xbb\xbf", "\x1c", "\x1f"})
    CHECK(pieces_of(std::string("a ") + other + "b") == Pieces{"a", std::string(" ") + other, "b"});
}

TEST_CASE("bytes that are not UTF-8 are pieces of their own and the text around them is cut as ever") {
  using Pieces = std::vector<std::string>;
  CHECK(pieces_of("ab \xff\xfe cd\xe6\xbc") == Pieces{"ab", " ", "\xff\xfe", " cd", "\xe6\xbc"});
  CHECK(pieces_of("\xed\xa0\x80x") == Pieces{"\xed\xa0\x80", "x"});  // a surrogate
  const std::string noise = random_bytes(1, 20000);
  std::string joined;
  for (const auto& piece : pieces_of(noise)) {
    CHECK(!piece.empty());
    joined += piece;
  }
  CHECK(joined == noise);
}

TEST_CASE("long runs without a cut are pieces too") {
  CHECK(pieces_of(std::string(1 << 20, ' ')).size() == 1);
  CHECK(pieces_of(std::string(1 << 20, ' ') + "x").size() == 2);
  CHECK(pieces_of(std::string(1 << 20, 'x')).size() == 1);
  CHECK(pieces_of(std::string(1 << 20, '-')).size() == 1);
}

TEST_CASE("cutting at cut() does not change the pieces") {
  const std::string text =
      "It's a test  of\n\ncutting; text 42 at\ttimes, \xff we can cut ' x y 's  and at times not. " + babble(5, 300);
  const auto whole = pieces_of(text);
  int cuts = 0;
  for (size_t from = 0; from < text.size(); ++from) {
    const size_t at = Pretokenizer::cut(text, from);
    CHECK(at >= from);
    cuts += at < text.size();
    auto pieces = pieces_of(std::string_view(text).substr(0, at));
    for (auto& piece : pieces_of(std::string_view(text).substr(at))) pieces.push_back(piece);
    CHECK(pieces == whole);
  }
  CHECK(cuts > 100);
  CHECK(Pretokenizer::cut("日本語の文章", 3) == std::string("日本語の文章").size());
}

TEST_CASE("the learned merges are those of counting all pairs anew each time") {
  for (const uint64_t seed : {1u, 2u, 3u, 4u, 5u}) {
    const std::string text = babble(seed, 3000);
    CHECK(merges_of(text, 456) == plain_merges(text, 456));
  }
  const std::string runs = "aaaaaaa aaaa aaaaa aaa aaaaaaaa abababab aabaab aabb";
  CHECK(merges_of(runs, 300) == plain_merges(runs, 300));
  const std::string noise = random_bytes(8, 4000);
  CHECK(merges_of(noise, 300) == plain_merges(noise, 300));
}

TEST_CASE("learning does not depend on the number of threads or on how the text is cut into files") {
  const std::string text = babble(9, 5 << 19);
  const int threads = hone::kernels::threads();
  hone::kernels::set_threads(1);
  const auto one = merges_of(text, 500);
  hone::kernels::set_threads(3);
  const auto three = merges_of(text, 500);
  hone::kernels::set_threads(threads);
  CHECK(one == three);
  const size_t cut = Pretokenizer::cut(text, 12345);
  const std::string_view files[] = {std::string_view(text).substr(0, cut), std::string_view(text).substr(cut)};
  CHECK(learn_merges(files, {.vocabulary = 500}) == one);
}

TEST_CASE("a text without repeated pairs gives a smaller vocabulary") {
  CHECK(merges_of("abc def", 300).empty());
  CHECK(merges_of("ab ab", 300) == std::vector<Merge>{{'a', 'b'}});
}

TEST_CASE("of much text an even sample is counted") {
  std::string text = babble(1, 2 << 20);
  std::string late = "zzzz yyyy ";
  while (late.size() < (2 << 20)) late += "zzzz yyyy ";
  const std::string both = text + late;
  const std::string_view texts[] = {both};
  const auto merges = learn_merges(texts, {.vocabulary = 300, .sample_bytes = 2 << 20});
  CHECK(std::find(merges.begin(), merges.end(), Merge{'z', 'z'}) != merges.end());
  CHECK(std::any_of(merges.begin(), merges.end(), [](const Merge& m) { return m.first == 'a'; }));
  CHECK(merges != learn_merges(texts, {.vocabulary = 300}));
}

TEST_CASE("encoding is merge after merge, for short words and long ones") {
  const std::string text = babble(11, 4000);
  const auto merges = plain_merges(text, 400);
  const auto tokenizer = hone::make_bpe(merges);
  CHECK(tokenizer->encode(text) == plain_encode(text, merges));
  std::string unbroken;
  Random random(3, "unbroken");
  for (size_t length : {1u, 2u, 30u, 47u, 48u, 49u, 50u, 1000u, 5000u}) {
    unbroken.clear();
    for (size_t i = 0; i < length; ++i) unbroken += static_cast<char>('a' + random.below(3));
    CHECK(tokenizer->encode(unbroken) == plain_encode(unbroken, merges));
  }
  const std::string same(3001, 'a');
  CHECK(tokenizer->encode(same) == plain_encode(same, merges));
}

TEST_CASE("decoding gives back any bytes at all") {
  const std::string text = babble(12, 20000);
  const std::string_view texts[] = {text};
  const auto tokenizer = hone::train_bpe(texts, {.vocabulary = 600});
  CHECK(tokenizer->vocabulary() == 600);
  for (const std::string& s : {text, random_bytes(4, 50000), std::string("é漢😀 \xe6\xbc"), std::string(),
                               std::string(3, '\0'), "abc\r\n\0 cab" + text.substr(0, 100)}) {
    const auto ids = tokenizer->encode(s);
    CHECK(tokenizer->decode(ids) == s);
    size_t bytes = 0;
    for (const int32_t id : ids) bytes += tokenizer->bytes_of(id);
    CHECK(bytes == s.size());
  }
  CHECK(tokenizer->encode(text).size() < text.size() / 2);
}

TEST_CASE("an encoder that has met many words gives the same as a new one") {
  const auto tokenizer = hone::make_bpe(merges_of(babble(13, 5000), 400));
  const auto used = tokenizer->encoder();
  std::vector<int32_t> ids;
  Random random(1, "words");
  std::string text;
  for (int i = 0; i < 80000; ++i) {  // more words than it remembers
    text.clear();
    for (int c = 0; c < 6; ++c) text += static_cast<char>('a' + random.below(26));
    used->append(text, ids);
  }
  ids.clear();
  const std::string sample = babble(14, 3000);
  used->append(sample, ids);
  CHECK(ids == tokenizer->encode(sample));
}
