// Checksums in pieces, and in loops that must not throw.
#include "io/checksum.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <span>
#include <vector>

using namespace hone;

TEST_CASE("a checksum of pieces is that of the whole, whatever their size") {
  CHECK(Checksum().text() == "2d06800538d394c2");  // XXH3 of nothing
  CHECK(checksum_of("", 0) == "2d06800538d394c2");
  std::vector<std::byte> bytes(5000);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * i % 251);
  const std::string whole = checksum_of(bytes.data(), bytes.size());
  CHECK(whole.size() == checksum_digits);
  for (const size_t size : {size_t{1}, size_t{63}, size_t{64}, size_t{1024}, size_t{4999}}) {
    CAPTURE(size);
    Checksum sum;
    for (size_t begin = 0; begin < bytes.size(); begin += size)
      sum.add(std::span(bytes).subspan(begin, std::min(size, bytes.size() - begin)));
    CHECK(sum.text() == whole);
  }
}

TEST_CASE("a checksum takes no memory where its text has room") {
  std::string text;
  text.reserve(checksum_digits);
  const char* const at = text.data();
  checksum_into("abc", 3, text);
  CHECK(text == checksum_of("abc", 3));
  Checksum().text_into(text);
  CHECK(text == "2d06800538d394c2");
  CHECK(text.data() == at);
}
