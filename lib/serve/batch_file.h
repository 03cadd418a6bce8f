// Files of requests, an object a line, and of the texts that they become.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/part_file.h"
#include "dataset/text_file.h"
#include "serve/engine.h"
#include "serve/prompt.h"

namespace hone {

// A line of the input. Members: "prompt" (text) or "parts" (as lines of examples have them) is required; "id" (text or
// a number; else the line's number), "tokens", "temperature", "top_k", "top_p", "repetition_penalty", "stop" (a text or
// several), "ignore_end", "seed" and "logprobs" replace what holds for all.
struct BatchLine {
  int64_t number = 0;  // from 1
  nlohmann::json id;
  Request request;                 // without its media, which take more memory than there may be for all lines
  std::vector<ExamplePart> parts;  // that PromptReader makes the request's prompt of; none: it is a text
  std::string media;               // their PromptMedia::digest()
  std::string error;               // why it cannot be run; empty: it can
};

struct BatchSettings {
  Request all;        // what a line does not say itself
  uint64_t seed = 1;  // of a line without one; its place in the file is then part of it, as in `generate --lines`
};

// Every line that is not empty, broken ones included: files of parts are read to see whether they can be. `folder`:
// where their paths begin. Throws Error(input) for a file that has no such line.
std::vector<BatchLine> read_batch(const FileText& file, const std::filesystem::path& folder, const Tokenizer& tokenizer,
                                  const PromptReader& prompts, const BatchSettings& settings);

// Texts on their way to their file: each is written, as it is finished, to "OUTPUT.part", under a line that tells what
// it is of. An interrupted run goes on there; when all are there, the file takes its name. One run has it at a time.
class BatchOutput {
 public:
  // `of`: the input, the model and what holds for all lines. Throws Error(usage) where the output exists (without
  // `force`) or another run has the part, Error(input) where the part is of something else, damaged or cannot be
  // written; with `force` it begins anew.
  BatchOutput(const std::string& path, const nlohmann::json& of, const std::vector<BatchLine>& lines, bool force);

  bool has(int64_t line) const { return lines_.contains(line); }  // from an earlier run, or written
  size_t found() const { return found_; }
  void write(int64_t line, const nlohmann::ordered_json& text);
  // In the order of the input, or as they were finished.
  void finish(bool ordered, bool force);

 private:
  void add(int64_t line, std::string object);

  std::string path_;
  PartFile part_;
  size_t found_ = 0;
  std::vector<std::pair<int64_t, std::string>> texts_;  // line, object
  std::unordered_set<int64_t> lines_;
};

nlohmann::ordered_json json_of(const BatchLine& line, const Completion& text, const Tokenizer& tokenizer);
nlohmann::ordered_json json_of_error(const BatchLine& line);

}  // namespace hone
