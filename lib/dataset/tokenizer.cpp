#include "dataset/tokenizer.h"

#include <array>
#include <charconv>

#include "base/error.h"
#include "dataset/bpe.h"
#include "dataset/sentence_piece.h"
#include "dataset/tokenizer_json.h"

namespace hone {
namespace {

class ByteTokenizer final : public Tokenizer {
 public:
  ByteTokenizer() {
    for (size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = static_cast<char>(i);
  }
  int32_t vocabulary() const override { return 256; }
  std::string_view text_of(int32_t id) const override {
    return id >= 0 && id < 256 ? std::string_view(&bytes_[static_cast<size_t>(id)], 1) : std::string_view();
  }
  std::unique_ptr<Encoder> encoder() const override {
    class Bytes final : public Encoder {
      void append(std::string_view text, std::vector<int32_t>& out) override {
        out.reserve(out.size() + text.size());
        for (const char c : text) out.push_back(static_cast<unsigned char>(c));
      }
    };
    return std::make_unique<Bytes>();
  }
  std::string name() const override { return "bytes"; }
  nlohmann::json to_json() const override { return {{"kind", "bytes"}}; }
  bool ids_are_bytes() const override { return true; }
  size_t cut(std::string_view text, size_t from) const override { return std::min(from, text.size()); }

 private:
  std::array<char, 256> bytes_;
};

struct Kind {
  std::string_view name;
  bool sized;  // written with a vocabulary: "name:N"
  std::shared_ptr<const Tokenizer> (*from_json)(const nlohmann::json&);
  // Null: it is not made of texts, but comes from a file.
  std::shared_ptr<const Tokenizer> (*train)(int32_t vocabulary, std::span<const std::string_view> texts);
};

// Every kind there is: a new one is a line here.
constexpr Kind kinds[] = {
    {"bytes", false, [](const nlohmann::json&) { return byte_tokenizer(); },
     [](int32_t, std::span<const std::string_view>) { return byte_tokenizer(); }},
    {"bpe", true, bpe_from_json,
     [](int32_t vocabulary, std::span<const std::string_view> texts) {
       return train_bpe(texts, {.vocabulary = vocabulary});
     }},
    {"tokenizer.json", false, tokenizer_from_json, nullptr},
    {"tokenizer.model", false, sentence_piece_from_json, nullptr},
};

const Kind* find_kind(std::string_view name) {
  for (const Kind& kind : kinds)
    if (kind.name == name) return &kind;
  return nullptr;
}

std::string known_kinds() {
  std::string all;
  for (const Kind& kind : kinds) {
    if (!kind.train) continue;
    if (!all.empty()) all += ", ";
    all += kind.name;
    if (kind.sized) all += ":N";
  }
  return all;
}

}  // namespace

size_t Tokenizer::cut(std::string_view text, size_t) const {
  return text.size();
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  encoder()->append(text, ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) text += text_of(id);
  return text;
}

std::shared_ptr<const Tokenizer> byte_tokenizer() {
  static const auto instance = std::make_shared<const ByteTokenizer>();
  return instance;
}

std::shared_ptr<const Tokenizer> make_tokenizer(const nlohmann::json& json) {
  if (json.is_null()) return byte_tokenizer();
  const auto name = json.is_object() ? json.find("kind") : json.end();
  if (!json.is_object() || name == json.end() || !name->is_string())
    throw input_error("the tokenizer has no \"kind\": the model file is damaged or was not written by this project");
  const Kind* kind = find_kind(name->get_ref<const std::string&>());
  if (!kind)
    throw input_error("unknown kind of tokenizer '{}' (known: {}): the file may be from a newer version",
                      name->get_ref<const std::string&>(), known_kinds());
  return kind->from_json(json);
}

TokenizerSpec parse_tokenizer_spec(std::string_view text) {
  const size_t colon = text.find(':');
  const Kind* kind = find_kind(text.substr(0, colon));
  if (!kind || !kind->train) throw usage_error("unknown tokenizer '{}': use one of {}, or a file", text, known_kinds());
  if (!kind->sized) {
    if (colon != text.npos) throw usage_error("tokenizer '{}' takes no vocabulary size: write '{}'", text, kind->name);
    return {std::string(kind->name), 256};
  }
  const std::string_view number = colon == text.npos ? std::string_view() : text.substr(colon + 1);
  int32_t vocabulary = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), vocabulary);
  if (error != std::errc() || end != number.data() + number.size() || vocabulary <= 256 ||
      vocabulary > bpe_max_vocabulary)
    throw usage_error("tokenizer '{}' needs a vocabulary size from 257 to {}, such as '{}:4096'", text,
                      bpe_max_vocabulary, kind->name);
  return {std::string(kind->name), vocabulary};
}

std::shared_ptr<const Tokenizer> train_tokenizer(const TokenizerSpec& spec, std::span<const std::string_view> texts) {
  const Kind* kind = find_kind(spec.kind);
  if (!kind || !kind->train) throw usage_error("unknown tokenizer '{}': use one of {}", spec.kind, known_kinds());
  return kind->train(spec.vocabulary, texts);
}

}  // namespace hone
