// Text from files: memory-mapped plain text, JSONL, and standard input.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace hone {

// The documents of one file, none of them empty.
struct TextSource {
  std::string name;  // for messages: the path, or "standard input"
  std::vector<std::string_view> documents;
  std::shared_ptr<const void> owner;  // of the text: a mapping or a buffer
  std::vector<size_t> answers =
      {};  // byte at which each document's answer begins, its size where it has none; or nothing

  int64_t bytes() const;
};

// Opens `path` by its extension: .jsonl has one JSON object a line whose string "text" is a document, or else its
// strings "prompt" and "answer", one behind the other (blank lines and empty texts are skipped); any other file is one
// document of any bytes. "-" is standard input, read to its end, as plain text. Regular files of plain text are mapped,
// not read. Throws Error(input) for a file that is missing, unreadable or without text, and for a line that is not
// UTF-8, not JSON or without these, with its number.
TextSource open_text(const std::string& path);
std::vector<TextSource> open_texts(const std::vector<std::string>& paths);  // in order; Error(usage) if "-" comes twice

std::string name_of(const std::vector<TextSource>& sources);  // of the first, and how many more there are

std::vector<std::string_view> documents_of(const std::vector<TextSource>& sources);  // in order, for train_tokenizer

TextSource text_in_memory(std::string text, std::string name);  // one document; Error(input) if it is empty

}  // namespace hone
