// The bytes of a file of text: mapped, read from a pipe, or decompressed.
#pragma once

#include <string>
#include <string_view>

#include "dataset/decompress.h"
#include "dataset/file_kind.h"

namespace hone {

struct FileText {
  std::string name;         // for messages: the path, or "standard input"
  OwnedText bytes;          // of the text
  bool json_lines = false;  // by its name: .jsonl or .ndjson, in either case, also behind .gz, .zst or .zstd
};

// Whether the name of a file, without that of a compression, is one of JSON lines.
bool named_json_lines(std::string_view path);

// "-" is standard input, read to its end. What gzip or zstd has compressed, by its first bytes, is decompressed;
// regular files of other bytes are mapped, not read. Throws Error(input) for a file that is missing, unreadable, a
// directory, no text by its first bytes (file_kind.h), or not compressed though its name says so.
FileText read_file_text(const std::string& path);

// From here on a regular file that is standard input is not read to its end, but stays where it stands: of ranks that are
// threads of this process each reads it from there.
void keep_standard_input();

// What a regular file is by its first bytes; null for text, for other files, and for one that cannot be read.
const FileKind* kind_of_file(const std::string& path);

// As read_file_text for bytes that were read already: decompressed where they are compressed.
std::string text_of_bytes(std::string bytes, const std::string& name);

}  // namespace hone
