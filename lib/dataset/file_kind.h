// What a file is by its first bytes, where it is not text.
#pragma once

#include <string>
#include <string_view>

namespace hone {

enum class Compression { none, gzip, zstd };

struct FileKind {
  std::string_view name;    // "a PNG image"
  std::string_view advice;  // what to do about it; nothing for what is decompressed
  Compression compression = Compression::none;
};

// Null for bytes that have no known signature: they are text, of any encoding. `bytes` is the whole file, or its first
// 4 kB at least.
const FileKind* file_kind(std::string_view bytes);

// Throws Error(input) that says what `name` is, and what to do, unless `bytes` are text or compressed.
void refuse_known_binary(std::string_view bytes, const std::string& name);

// 'a.txt' in quotes, or standard input.
std::string in_message(const std::string& name);

}  // namespace hone
