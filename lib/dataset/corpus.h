// A corpus: the tokens of one or many texts as one long row with random access.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dataset/reader.h"
#include "dataset/tokenizer.h"

namespace hone {

// The documents in order, with one token `document_separator` between two. Copies and slices share the tokens. With a
// tokenizer whose ids are bytes they are read from the (mapped) text itself; otherwise the text is tokenized once, into
// 2 bytes a token (4 for vocabularies above 65536).
class Corpus {
 public:
  int64_t size() const { return count_; }            // tokens
  const std::string& name() const { return name_; }  // for messages: the file, "a.txt and 2 more"
  const Tokenizer& tokenizer() const;

  // Tokens [begin, begin+count) to out[0..count). The range must lie within the corpus; Error(internal) if not.
  void copy(int64_t begin, int64_t count, int32_t* out) const;

  // Bytes of text that those tokens stand for, a separator being one.
  int64_t bytes(int64_t begin, int64_t count) const;

  Corpus slice(int64_t begin, int64_t count) const;

  // Where its documents begin, from 0 on: records of JSON lines, files, and in plain files what blank lines separate.
  // Each has the blank lines or the separator behind it, so that documents may change places. Boundaries lie between
  // tokens.
  std::vector<int64_t> document_starts() const;

  class Tokens;  // where they are

 private:
  friend Corpus open_corpus(std::vector<TextSource>, std::shared_ptr<const Tokenizer>);
  friend Corpus corpus_of(std::vector<int32_t>, std::shared_ptr<const Tokenizer>, std::string);
  friend std::pair<Corpus, Corpus> split_corpus(const Corpus&, double);
  friend std::pair<Corpus, Corpus> open_split_corpus(std::vector<TextSource>, std::shared_ptr<const Tokenizer>, double);
  static void name_parts(std::pair<Corpus, Corpus>& parts, double valid_fraction);
  Corpus(std::shared_ptr<const Tokens> tokens, std::string name);
  void check(int64_t begin, int64_t count) const;

  std::shared_ptr<const Tokens> tokens_;
  std::string name_;
  int64_t begin_ = 0, count_ = 0;
};

// Tokenizes in parallel; the tokens do not depend on the number of threads. Throws Error(input) as open_text does.
Corpus open_corpus(std::vector<TextSource> sources, std::shared_ptr<const Tokenizer> tokenizer);
Corpus open_corpus(const std::vector<std::string>& paths, std::shared_ptr<const Tokenizer> tokenizer);

// Tokens that exist already, each below the tokenizer's vocabulary.
Corpus corpus_of(std::vector<int32_t> ids, std::shared_ptr<const Tokenizer> tokenizer, std::string name);

// {training, validation}: the last `valid_fraction` of the tokens validates. Error(usage) unless 0 < valid_fraction
// < 1.
std::pair<Corpus, Corpus> split_corpus(const Corpus& corpus, double valid_fraction);

// The same from texts: they are cut where the bytes would be, and each part is tokenized by itself, so that nothing of
// the validation text is in a token of the other (split_texts gives the part that a tokenizer may be trained on).
// Error(input) where a part is empty.
std::pair<Corpus, Corpus> open_split_corpus(std::vector<TextSource> sources, std::shared_ptr<const Tokenizer> tokenizer,
                                            double valid_fraction);

// Throws Error(input), with the file and what it has, unless a window of `context` tokens and the token after it fit.
void require_window(const Corpus& corpus, int64_t context);

}  // namespace hone
