#include "dataset/utf8.h"

#include <doctest/doctest.h>

using hone::utf8_front;
using hone::Utf8Front;
using hone::Utf8Stream;
using hone::valid_utf8_prefix;

namespace {

// The plain definition: decode the number, then look at its range.
bool is_character(const std::string& s) {
  const auto b = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  const size_t n = s.size();
  if (n == 1) return b(0) < 0x80;
  const unsigned marks[] = {0, 0, 0xc0, 0xe0, 0xf0};
  const unsigned masks[] = {0, 0, 0xe0, 0xf0, 0xf8};
  if ((b(0) & masks[n]) != marks[n]) return false;
  unsigned code = b(0) & ~masks[n];
  for (size_t i = 1; i < n; ++i) {
    if ((b(i) & 0xc0) != 0x80) return false;
    code = code << 6 | (b(i) & 0x3f);
  }
  const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
  return code >= least[n] && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff);
}

}  // namespace

TEST_CASE("utf8_front agrees with the definition for every start of up to four bytes") {
  int valid = 0;
  for (unsigned a = 0; a < 256; ++a) {
    for (unsigned b = 0x7e; b < 0xc2; ++b) {
      for (const unsigned c : {0x7fu, 0x80u, 0xbfu, 0xc0u}) {
        for (const unsigned d : {0x7fu, 0x80u, 0xbfu, 0xc0u}) {
          const std::string four = {static_cast<char>(a), static_cast<char>(b), static_cast<char>(c),
                                    static_cast<char>(d)};
          size_t expected = 0;
          for (size_t n = 1; n <= 4; ++n)
            if (is_character(four.substr(0, n))) expected = n;
          const Utf8Front front = utf8_front(four);
          if ((front.kind == Utf8Front::valid ? front.length : 0) != expected)
            FAIL("bytes " << a << " " << b << " " << c << " " << d);
          valid += front.kind == Utf8Front::valid;
        }
      }
    }
  }
  CHECK(valid > 1000);
}

TEST_CASE("valid_utf8_prefix stops at the first byte that is no part of a character") {
  const std::string good = "plain ASCII text, then é, 漢字 and 😀 in the midst of more plain text";
  CHECK(valid_utf8_prefix(good) == good.size());
  CHECK(valid_utf8_prefix("") == 0);
  for (size_t at = 0; at <= 40; ++at) {
    std::string bad(40, 'x');
    bad.insert(at, 1, static_cast<char>(0xff));
    CHECK(valid_utf8_prefix(bad) == at);
  }
  CHECK(valid_utf8_prefix("ab\xe6\xbc") == 2);  // cut short
}

TEST_CASE("a stream gives out characters when they are complete, whatever the pieces") {
  const std::string text = "aé漢😀z";
  for (size_t step = 1; step <= text.size(); ++step) {
    Utf8Stream stream;
    std::string all;
    for (size_t i = 0; i < text.size(); i += step) {
      const std::string out = stream.push(std::string_view(text).substr(i, step));
      CHECK(valid_utf8_prefix(out) == out.size());
      all += out;
    }
    CHECK(all + stream.finish() == text);
  }
}

TEST_CASE("a stream replaces what can never become a character, and an unfinished end") {
  Utf8Stream stream;
  CHECK(stream.push("a\xff") == "a\xef\xbf\xbd");
  CHECK(stream.push("\xe6") == "");
  CHECK(stream.push("\xbc") == "");
  CHECK(stream.push("b") ==
        "\xef\xbf\xbd"
        "b");
  CHECK(stream.push("\xf0\x9f") == "");
  CHECK(stream.finish() == "\xef\xbf\xbd");
  CHECK(stream.finish() == "");
}
