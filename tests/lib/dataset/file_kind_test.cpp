#include "dataset/file_kind.h"

#include <doctest/doctest.h>

#include "base/error.h"
#include "base/random.h"

using hone::Compression;
using hone::file_kind;
using namespace std::string_literals;

namespace {

std::string name_of(const std::string& bytes) {
  const hone::FileKind* kind = file_kind(bytes);
  return kind ? std::string(kind->name) : "";
}

std::string padded(std::string bytes, size_t size = 600) {
  bytes.resize(std::max(size, bytes.size()), '\0');
  return bytes;
}

}  // namespace

TEST_CASE("files are known by their first bytes") {
  const std::pair<std::string, std::string> files[] = {
      {"\x89HDF\r\n\x1a\n"s, "HDF5"},
      {padded("", 512) + "\x89HDF\r\n\x1a\n"s, "HDF5"},
      {padded("", 1024) + "\x89HDF\r\n\x1a\n"s, "HDF5"},
      {"\x10\0\0\0\0\0\0\0{\"a\":{\"dtype\":1}}"s, "safetensors"},
      {"GGUF\3\0\0\0"s, "GGUF"},
      {"GGUF\0\0\0\3"s, "GGUF"},
      {"\x93NUMPY\1\0"s, "NumPy"},
      {"\x80\4\x95\x10"s, "pickle"},
      {"PK\3\4\x14\0"s, "ZIP"},
      {"PK\5\6\0\0"s, "ZIP"},
      {"\xfd"
       "7zXZ\0\0"s,
       "xz"},
      {"BZh91AY&SY\1"s, "bzip2"},
      {"BZh9\x17\x72\x45\x38\x50\x90"s, "bzip2"},
      {"\x04\x22\x4d\x18\x64"s, "LZ4"},
      {"%PDF-1.7\n"s, "PDF"},
      {"\x89PNG\r\n\x1a\n"s, "PNG"},
      {"\xff\xd8\xff\xe0"s, "JPEG"},
      {"GIF89a\1"s, "GIF"},
      {"RIFF\x24\0\0\0WAVEfmt "s, "RIFF"},
      {"\x7f"
       "ELF\2\1\1"s,
       "ELF"},
      {"SQLite format 3\0"s, "SQLite"},
      {"PAR1\x15\4\x15\4PAR1"s, "Parquet"},
      {"ARROW1\0\0"s, "Arrow"},
      {padded("notes.txt", 257) + "ustar\0"s + "00", "tar"},
      {padded("MZ", 60) + "\x80\0\0\0"s + padded("", 64) + "PE\0\0"s, "Windows"},
  };
  for (const auto& [bytes, name] : files) {
    CAPTURE(name);
    CHECK(name_of(bytes).find(name) != std::string::npos);
    CHECK(file_kind(bytes)->compression == Compression::none);
    CHECK(!file_kind(bytes)->advice.empty());
  }
  CHECK(file_kind("\x1f\x8b\x08\0\0"s)->compression == Compression::gzip);
  CHECK(file_kind("\x28\xb5\x2f\xfd\x04"s)->compression == Compression::zstd);
  CHECK(file_kind("\x50\x2a\x4d\x18\0"s)->compression == Compression::zstd);  // a frame to be skipped
}

TEST_CASE("texts that begin like a signature are texts, and so are bytes of no kind") {
  for (const std::string& text : {""s,
                                  "a"s,
                                  "PK is a name"s,
                                  "MZ begins a line, and sixty bytes on there is no header of a program anywhere"s,
                                  "BZh9 is how bzip2 begins"s,
                                  "GGUF is a format"s,
                                  "PAR1 is a course in mathematics"s,
                                  "RIFF of the day, WAVE"s,
                                  "ID3 is a tag"s,
                                  "OggS is one, too"s,
                                  "Obj 1"s,
                                  "fLaCk"s,
                                  "%!PS-Adobe"s,
                                  "7z is short"s,
                                  "{\"text\": 1}"s,
                                  "\xef\xbb\xbf"
                                  "a byte order mark"s,
                                  "\xff\xfe"
                                  "a\0b\0"s,
                                  "\xfe\xff\0a\0b"s,
                                  "\x1f\x8b\x07"s,
                                  "\0\0\0\0"s,
                                  "\0\0\0\x18"
                                  "fty"s,
                                  "ustar"s})
    CHECK(name_of(text) == "");
  hone::Random random(4, "bytes");
  std::string bytes(20000, '\0');
  for (char& c : bytes) c = static_cast<char>(random.below(256));
  CHECK(name_of(bytes) == "");
}

TEST_CASE("a refusal says what the file is and what to do") {
  try {
    hone::refuse_known_binary("\x89PNG\r\n\x1a\n"s, "a.txt");
    FAIL("nothing was thrown");
  } catch (const hone::Error& error) {
    CHECK(error.kind() == hone::ErrorKind::input);
    CHECK(error.what() == "'a.txt' is a PNG image, not text: give a file of text"s);
  }
  CHECK_NOTHROW(hone::refuse_known_binary("text", "a.txt"));
  CHECK_NOTHROW(hone::refuse_known_binary("\x1f\x8b\x08\0\0"s, "a.gz"));
}
