#include "dataset/sentence_piece.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <queue>
#include <unordered_map>

#include "base/error.h"
#include "dataset/base64.h"
#include "dataset/pieces/added_tokens.h"
#include "dataset/pieces/character_map.h"
#include "dataset/pieces/piece_model.h"
#include "dataset/sentence_piece_file.h"
#include "dataset/sentence_piece_model.h"
#include "dataset/utf8.h"

namespace hone {
namespace {

constexpr std::string_view space_sign = "\xe2\x96\x81";  // U+2581
constexpr std::string_view replacement = "\xef\xbf\xbd";

std::string with_spaces(std::string text) {
  for (size_t at = 0; (at = text.find(space_sign, at)) != text.npos; ++at) text.replace(at, space_sign.size(), 1, ' ');
  return text;
}

class SentencePiece final : public Tokenizer {
 public:
  SentencePiece(std::string base64, std::string_view bytes, int32_t separator)
      : base64_(std::move(base64)), separator_(separator), file_(parse_sentence_piece(bytes, "tokenizer.model")) {
    if (!file_.character_map.empty()) map_.emplace(file_.character_map, "tokenizer.model: its normalizer");
    for (size_t id = 0; id < file_.pieces.size(); ++id) {
      const auto& piece = file_.pieces[id];
      const int byte = piece.type == SentencePieceFile::byte ? byte_of_name(piece.text) : -1;
      texts_.push_back(byte >= 0 ? std::string(1, static_cast<char>(byte)) : with_spaces(piece.text));
      if (piece.type == SentencePieceFile::control)
        controls_.push_back({piece.text, static_cast<int32_t>(id), false, false, false, false, true});
    }
    if (separator_ < 0 || separator_ >= vocabulary())
      throw input_error("tokenizer.model has no token {}: the model file is damaged", separator_);
    model_ = make_sentence_piece_model(file_);
    finder_ = TokenFinder(controls_);
  }

  int32_t vocabulary() const override { return static_cast<int32_t>(texts_.size()); }
  std::string_view text_of(int32_t id) const override {
    return id >= 0 && id < vocabulary() ? std::string_view(texts_[static_cast<size_t>(id)]) : std::string_view();
  }
  std::unique_ptr<Encoder> encoder() const override;
  std::unique_ptr<Encoder> special_encoder() const override;
  std::string name() const override { return fmt::format("tokenizer.model:{}", vocabulary()); }
  nlohmann::json to_json() const override {
    return {{"kind", "tokenizer.model"}, {"base64", base64_}, {"separator", separator_}};
  }
  int32_t separator() const override { return separator_; }

  // As SentencePiece's Normalizer does it, step by step.
  std::string normalized(std::string_view text) const {
    std::string out;
    const std::string space(file_.escape_spaces ? space_sign : " ");
    if (file_.remove_extra_spaces)
      while (!text.empty()) {
        const auto [length, made] = front(text);
        if (made != " ") break;
        text.remove_prefix(length);
      }
    if (text.empty()) return out;
    if (file_.add_space && !file_.space_behind_words) out += space;
    bool after_space = file_.remove_extra_spaces;
    while (!text.empty()) {
      auto [length, made] = front(text);
      text.remove_prefix(length);
      while (after_space && made.starts_with(' ')) made.remove_prefix(1);
      for (const char c : made) c == ' ' ? out += space : out += c;
      if (!made.empty()) after_space = made.ends_with(' ');
      if (!file_.remove_extra_spaces) after_space = false;
    }
    if (file_.remove_extra_spaces)
      while (out.ends_with(space)) out.resize(out.size() - space.size());
    if (file_.add_space && file_.space_behind_words) out += space;
    return out;
  }

 private:
  friend class SentencePieceEncoder;

  // What stands first in `text`: its bytes, and what they become.
  std::pair<size_t, std::string_view> front(std::string_view text) const {
    if (const size_t length = model_->user_defined(text)) return {length, text.substr(0, length)};
    if (map_)
      if (const auto match = map_->longest(text)) return {match->length, match->text};
    const Utf8Front character = utf8_front(text);
    if (character.kind != Utf8Front::valid) return {1, replacement};
    return {character.length, text.substr(0, character.length)};
  }

  std::string base64_;
  int32_t separator_;
  SentencePieceFile file_;
  std::optional<CharacterMap> map_;
  std::unique_ptr<const SentencePieceModel> model_;
  std::vector<std::string> texts_;  // by id
  std::vector<AddedToken> controls_;
  TokenFinder finder_;
};

class SentencePieceEncoder final : public Encoder {
 public:
  SentencePieceEncoder(const SentencePiece& tokenizer, bool special) : t_(tokenizer), special_(special) {}

  void append(std::string_view text, std::vector<int32_t>& out) override {
    if (!special_) return append_text(text, out);
    for (const TokenFinder::Segment& segment : t_.finder_.find(text)) {
      if (segment.id >= 0)
        out.push_back(segment.id);
      else
        append_text(text.substr(segment.begin, segment.end - segment.begin), out);
    }
  }

 private:
  void append_text(std::string_view text, std::vector<int32_t>& out) { t_.model_->append(t_.normalized(text), out); }

  const SentencePiece& t_;
  bool special_;
};

std::unique_ptr<Encoder> SentencePiece::encoder() const {
  return std::make_unique<SentencePieceEncoder>(*this, false);
}

std::unique_ptr<Encoder> SentencePiece::special_encoder() const {
  return std::make_unique<SentencePieceEncoder>(*this, true);
}

}  // namespace

std::shared_ptr<const Tokenizer> sentence_piece_from_json(const nlohmann::json& json) {
  const auto text = json.find("base64"), separator = json.find("separator");
  if (text == json.end() || !text->is_string() || separator == json.end() || !separator->is_number_integer())
    throw input_error("the tokenizer has no \"base64\" or \"separator\": the model file is damaged");
  const auto bytes = from_base64(text->get_ref<const std::string&>());
  if (!bytes) throw input_error("the tokenizer's \"base64\" is none: the model file is damaged");
  return std::make_shared<SentencePiece>(text->get<std::string>(), *bytes, separator->get<int32_t>());
}

nlohmann::json sentence_piece_json(std::string_view bytes, const std::string& where, const std::string& end) {
  const SentencePieceFile file = parse_sentence_piece(bytes, where);
  int32_t separator = file.end;
  for (size_t id = 0; id < file.pieces.size(); ++id) {
    const auto& piece = file.pieces[id];
    if (!end.empty() && piece.text == end) separator = static_cast<int32_t>(id);
    if (end.empty() && separator < 0 && piece.type == SentencePieceFile::byte && byte_of_name(piece.text) == 0)
      separator = static_cast<int32_t>(id);
  }
  if (separator < 0)
    throw input_error("{} has no token that ends a text; name one as eos_token in tokenizer_config.json", where);
  nlohmann::json object = {{"kind", "tokenizer.model"}, {"base64", to_base64(bytes)}, {"separator", separator}};
  sentence_piece_from_json(object);  // refuses what is not understood
  return object;
}

}  // namespace hone
