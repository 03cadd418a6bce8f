// Tokenizers: text to token ids and back, without loss for any bytes at all.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hone {

// The token that stands between two documents of a corpus where a tokenizer's ids 0 to 255 are the single bytes: the
// byte NUL, which text does not contain.
constexpr int32_t document_separator = 0;

// Encodes text after text and remembers words it has met. For one thread; must not outlive its tokenizer.
class Encoder {
 public:
  virtual ~Encoder() = default;
  virtual void append(std::string_view text, std::vector<int32_t>& out) = 0;  // adds the tokens of `text` to `out`
};

// Immutable, shared between threads. A model's vocabulary may be larger (padded): ids from vocabulary() on stand for no
// text.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual int32_t vocabulary() const = 0;
  virtual std::string_view text_of(int32_t id) const = 0;  // the bytes of one token, maybe a part of a character
  virtual std::unique_ptr<Encoder> encoder() const = 0;
  // The same, but what is spelled like a special token becomes it; elsewhere that is text like any other.
  virtual std::unique_ptr<Encoder> special_encoder() const { return encoder(); }
  virtual std::string name() const = 0;        // "bytes", "bpe:4096": what parse_tokenizer_spec takes
  virtual nlohmann::json to_json() const = 0;  // make_tokenizer's argument
  virtual int32_t separator() const { return document_separator; }  // stands between documents, and ends a text
  virtual bool ids_are_bytes() const { return false; }  // then a corpus reads its tokens straight from the text

  // A position at or after `from` where `text` can be cut so that its two parts have the tokens of the whole;
  // text.size() if there is none.
  virtual size_t cut(std::string_view text, size_t from) const;

  std::vector<int32_t> encode(std::string_view text) const;
  std::string decode(std::span<const int32_t> ids) const;
  size_t bytes_of(int32_t id) const { return text_of(id).size(); }  // of text, for bits per byte
};

std::shared_ptr<const Tokenizer> byte_tokenizer();

// From to_json()'s value, or null for bytes. Throws Error(input) for anything else.
std::shared_ptr<const Tokenizer> make_tokenizer(const nlohmann::json& json);

// What a person writes after --tokenizer: "bytes" or "bpe:4096".
struct TokenizerSpec {
  std::string kind;
  int32_t vocabulary;
};
TokenizerSpec parse_tokenizer_spec(std::string_view text);  // throws Error(usage)

// Makes the tokenizer of `spec` for `texts`; the same texts give the same tokenizer whatever the number of threads.
std::shared_ptr<const Tokenizer> train_tokenizer(const TokenizerSpec& spec, std::span<const std::string_view> texts);

}  // namespace hone
