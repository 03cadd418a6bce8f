// Text from files: memory-mapped plain text, JSON lines, compressed text, and standard input.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hone {

// The documents of one file, none of them empty.
struct TextSource {
  std::string name;  // for messages: the path, or "standard input"
  std::vector<std::string_view> documents;
  std::shared_ptr<const void> owner;  // of the text: a mapping or a buffer
  bool records = false;               // of JSON lines: a document is whole, whatever lines it has

  int64_t bytes() const;
};

// Opens `path` as read_file_text does (text_file.h). JSON lines have one object a line whose string "text" is a
// document, or else its strings "prompt" and "answer", one behind the other, or "prompt" and the one of "answers" that
// "label" counts from 0 (blank lines and empty texts are skipped); any other file is one document of any bytes. Throws
// Error(input) as read_file_text does, for a file without text, and for a line that is not UTF-8, not JSON or without
// these, with its number.
TextSource open_text(const std::string& path);
std::vector<TextSource> open_texts(const std::vector<std::string>& paths);  // in order; Error(usage) if "-" comes twice
void require_one_stdin(const std::vector<std::string>& paths);              // that Error(usage)

std::string name_of(const std::vector<std::string>& names);  // of the first, and how many more there are
std::string name_of(const std::vector<TextSource>& sources);

std::vector<std::string_view> documents_of(const std::vector<TextSource>& sources);  // in order, for train_tokenizer

// {training, validation}: the documents before and behind the byte at which split_corpus (corpus.h) cuts them as bytes,
// so that all tokenizers have the same text on either side. Either may hold nothing. They share the text's owner.
// Error(usage) unless 0 < valid_fraction < 1.
std::pair<std::vector<TextSource>, std::vector<TextSource>> split_texts(const std::vector<TextSource>& sources,
                                                                        double valid_fraction);
// Tokens or bytes of `count` that come before the validation part.
int64_t training_part(int64_t count, double valid_fraction);

TextSource text_in_memory(std::string text, std::string name);  // one document; Error(input) if it is empty

}  // namespace hone
