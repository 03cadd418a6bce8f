// Examples of several parts, from JSON lines: text and media (media/medium.h) in any order, and an answer.
//
//   {"parts": [{"image": "seven.png"}, {"text": "digit: "}], "answer": "7", "loss_weight": 2}
//
// Paths are relative to the file that names them. "images.gz#17" is entry 17 of an IDX file. A line with ranges,
// "images.gz#0..60000", stands for as many examples, from the first entry to the one before the last; its answers may
// come from an IDX file of labels, {"labels": "labels.gz#0..60000"} in the place of the answer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "media/medium.h"

namespace hone {

struct ExamplePart {
  const Medium* medium = nullptr;  // null: text
  std::string value;               // the text, or the path
  int64_t index = -1;              // of an IDX file; -1: the file is one image or sound
  // What such a file holds, where it comes with a request instead of a path; `value` then says where it stood.
  std::shared_ptr<const std::string> bytes = {};

  const char* kind() const;  // as its member of a line: "text", "image", "audio"
  std::string name() const;  // of a file, for messages: "'a.gz#17'"
};

struct Example {
  std::vector<ExamplePart> parts;  // at least one
  std::string answer;
  bool has_answer = false;
  float weight = 1;  // of its loss, above 0
  size_t file = 0, line = 0;

  bool has(std::string_view kind) const;  // a part of that name
  MediaMix mix() const;                   // the media of its parts
};

struct Examples {
  std::vector<std::string> files;
  std::vector<Example> all;

  std::string where(const Example& example) const;  // "a.jsonl, line 3"
  std::string name() const;                         // "a.jsonl and 2 more"
};

// What an option names: a file, or "FILE#ENTRY" of an IDX file; a file that has such a name is that file. Throws
// Error(input) for a range, and for what is no entry.
ExamplePart medium_part(const Medium& medium, const std::string& text);

// The "parts" of a line whose paths are relative to `folder`. Throws Error(input) for what is no list of objects with
// one text or medium each, and for ranges, which stand for several lines.
std::vector<ExamplePart> read_parts(const nlohmann::json& parts, const std::filesystem::path& folder);

// Lines with "parts"; with "prompt" and "answer"; or with "text". Throws Error(input) with file and line for one that
// is none of these, a part that is no object of one text or medium, ranges of different lengths, a weight that is no
// number above 0, labels that cannot be read, and for files without lines.
Examples read_examples(const std::vector<std::string>& paths);

// Whether a file of JSON lines has a first line with "parts"; what is no regular file is taken to have none.
bool holds_parts(const std::string& path);

}  // namespace hone
