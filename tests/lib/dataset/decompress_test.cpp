#include "dataset/decompress.h"

#include <doctest/doctest.h>
#include <zlib.h>
#include <zstd.h>

#include "base/error.h"
#include "base/random.h"

using hone::Compression;
using hone::decompress;
using hone::Error;

namespace {

constexpr uint64_t plenty = uint64_t{1} << 32;

std::string gzip(const std::string& text) {
  z_stream stream = {};
  REQUIRE(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string packed(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

std::string zstd(const std::string& text) {
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 1));
  return packed;
}

struct Packer {
  Compression compression;
  std::string (*pack)(const std::string&);
};
constexpr Packer packers[] = {{Compression::gzip, gzip}, {Compression::zstd, zstd}};

// Larger than the first room for the result.
std::string long_text() {
  hone::Random random(1, "text");
  std::string text;
  while (text.size() < 3'000'000) text += static_cast<char>('a' + random.below(20));
  return text;
}

std::string failure_of(Compression compression, const std::string& packed, uint64_t most = plenty) {
  try {
    decompress(compression, packed, "a.txt.gz", most);
  } catch (const Error& error) {
    CHECK(error.kind() == hone::ErrorKind::input);
    return error.what();
  }
  FAIL("nothing was thrown");
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

}  // namespace

TEST_CASE("what was compressed comes back, however long") {
  for (const Packer& p : packers)
    for (const std::string& text :
         {std::string("x"), std::string("\0\xff", 2), long_text(), std::string(5'000'000, 'z')})
      CHECK(decompress(p.compression, p.pack(text), "a", plenty).text == text);
}

TEST_CASE("members stand one behind the other, empty ones among them, and zeros behind the last are padding") {
  for (const Packer& p : packers) {
    const std::string packed = p.pack("one ") + p.pack("") + p.pack("two");
    CHECK(decompress(p.compression, packed, "a", plenty).text == "one two");
    CHECK(decompress(p.compression, packed + std::string(512, '\0'), "a", plenty).text == "one two");
    CHECK(decompress(p.compression, p.pack(""), "a", plenty).text.empty());
  }
}

TEST_CASE("data that was cut anywhere is refused with the file's name") {
  for (const Packer& p : packers) {
    const std::string packed = p.pack(long_text().substr(0, 3000));
    for (size_t size : {size_t{4}, size_t{12}, packed.size() / 2, packed.size() - 1}) {
      const std::string message = failure_of(p.compression, packed.substr(0, size));
      CHECK(contains(message, "'a.txt.gz'"));
      CHECK(contains(message, "ends in the middle"));
    }
  }
}

TEST_CASE("damaged data and what else follows are refused") {
  std::string packed = gzip(long_text());
  packed[packed.size() - 6] = static_cast<char>(packed[packed.size() - 6] ^ 1);  // the checksum
  CHECK(contains(failure_of(Compression::gzip, packed), "is damaged"));
  CHECK(contains(failure_of(Compression::gzip, gzip("a") + "text"), "followed by something else"));
  CHECK(contains(failure_of(Compression::zstd, zstd("a") + "text"), "is damaged"));
}

TEST_CASE("a text beyond the limit is refused with the size that was reached") {
  const std::string text(3'000'000, 'z');
  for (const Packer& p : packers) {
    CHECK(decompress(p.compression, p.pack(text), "a", 3'000'001).text == text);
    const std::string message = failure_of(p.compression, p.pack(text), 2'000'000);
    CHECK(contains(message, "more than 2.00 MB"));
    CHECK(contains(message, "decompress it to a file"));
  }
  CHECK(hone::free_memory() > 0);
}
