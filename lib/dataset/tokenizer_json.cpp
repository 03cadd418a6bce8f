#include "dataset/tokenizer_json.h"

#include <algorithm>
#include <filesystem>

#include "base/atomic_file.h"
#include "base/json.h"
#include "dataset/pieces/added_tokens.h"
#include "dataset/pieces/piece_model.h"
#include "dataset/pieces/pre_tokenizer.h"
#include "dataset/utf8.h"

namespace hone {
namespace {

using nlohmann::json;

// Text or, where it is not UTF-8, bytes.
template <class F>
void each_run(std::string_view text, F&& f) {
  while (!text.empty()) {
    const size_t valid = valid_utf8_prefix(text);
    if (valid > 0) f(text.substr(0, valid), true);
    text.remove_prefix(valid);
    size_t invalid = 0;
    while (invalid < text.size()) {
      const Utf8Front front = utf8_front(text.substr(invalid));
      if (front.kind == Utf8Front::valid) break;
      invalid += front.length;
    }
    if (invalid > 0) f(text.substr(0, invalid), false);
    text.remove_prefix(invalid);
  }
}

// What texts of tokens stand for in a text.
struct Decoder {
  bool bytes = false;                                     // of the model: they are texts already
  bool named_bytes = false;                               // "<0x0A>"
  std::vector<std::pair<std::string, std::string>> swap;  // "▁" -> " "

  void read(const TokenizerPart& part) {
    const std::string type = part.type();
    if (type == "Sequence") {
      for (const TokenizerPart& inner : part.list("decoders")) read(inner);
    } else if (type == "ByteLevel") {
      bytes = true;
    } else if (type == "ByteFallback") {
      named_bytes = true;
    } else if (type == "Metaspace") {
      swap.emplace_back(part.text("replacement"), " ");
    } else if (type == "Replace" && part.part("pattern").has("String")) {
      swap.emplace_back(part.part("pattern").text("String"), part.text("content"));
    } else if (type != "Fuse" && type != "Strip") {  // of whole texts: the space that begins one
      throw part.unknown();
    }
  }

  std::string text_of(const std::string& token) const {
    if (const int byte = named_bytes ? byte_of_name(token) : -1; byte >= 0)
      return std::string(1, static_cast<char>(byte));
    std::string text = token;
    for (const auto& [from, to] : swap)
      for (size_t at = 0; !from.empty() && (at = text.find(from, at)) != text.npos; at += to.size())
        text.replace(at, from.size(), to);
    return text;
  }
};

// Special tokens around a text.
struct Template {
  std::vector<int32_t> before, after;

  void read(const TokenizerPart& part) {
    const std::string type = part.type();
    if (type == "Sequence") {
      for (const TokenizerPart& inner : part.list("processors")) read(inner);
    } else if (type == "TemplateProcessing") {
      const TokenizerPart special = part.part("special_tokens");
      bool seen = false;
      for (const json& piece : part.at("single")) {
        if (piece.contains("Sequence")) {
          seen = true;
          continue;
        }
        try {
          const std::string id = piece.at("SpecialToken").at("id").get<std::string>();
          for (const json& token : special.at(id.c_str()).at("ids"))
            (seen ? after : before).push_back(token.get<int32_t>());
        } catch (const json::exception&) {
          throw input_error("{} is not understood", part.where("single"));
        }
      }
    } else if (type != "ByteLevel") {
      throw part.unknown();
    }
  }
};

class JsonTokenizer final : public Tokenizer {
 public:
  JsonTokenizer(std::string text, int32_t separator) : text_(std::move(text)), separator_(separator) {
    const TokenizerPart whole(require_json(text_, "tokenizer.json"), "");
    for (const char* shortens : {"truncation", "padding"})
      if (whole.has(shortens)) throw input_error("tokenizer.json: {} is not understood; it must be null", shortens);
    added_ = read_added_tokens(whole.json().value("added_tokens", json()));
    if (whole.has("normalizer")) normalizer_ = make_normalizer(TokenizerPart(whole.at("normalizer"), "normalizer"));
    if (whole.has("pre_tokenizer"))
      pre_tokenizer_ = make_pre_tokenizer(TokenizerPart(whole.at("pre_tokenizer"), "pre_tokenizer"));
    const bool byte_level = pre_tokenizer_ && pre_tokenizer_->byte_level();
    model_ = make_piece_model(TokenizerPart(whole.at("model"), "model"), byte_level);
    Decoder decoder;
    if (whole.has("decoder")) decoder.read(TokenizerPart(whole.at("decoder"), "decoder"));
    if (whole.has("decoder") && decoder.bytes != byte_level)
      throw input_error("tokenizer.json: the decoder and the pre_tokenizer do not agree on what is a byte");
    if (whole.has("post_processor")) template_.read(TokenizerPart(whole.at("post_processor"), "post_processor"));
    for (const std::string& token : model_->texts()) texts_.push_back(byte_level ? token : decoder.text_of(token));
    for (const AddedToken& token : added_) {
      if (texts_.size() <= static_cast<size_t>(token.id)) texts_.resize(static_cast<size_t>(token.id) + 1);
      texts_[static_cast<size_t>(token.id)] = token.content;
    }
    for (const std::vector<int32_t>& ids : {template_.before, template_.after})
      for (const int32_t id : ids) require_token(id);
    require_token(separator_);
    for (const bool special : {false, true})
      for (const bool normalized : {false, true}) finders_[special][normalized] = finder(special, normalized);
    cuts_ = byte_level && pre_tokenizer_->cuts_at_spaces() &&
            std::none_of(added_.begin(), added_.end(), [](const AddedToken& t) {
              return t.lstrip || t.rstrip || t.content.find(' ') != t.content.npos;
            });
  }

  int32_t vocabulary() const override { return static_cast<int32_t>(texts_.size()); }
  std::string_view text_of(int32_t id) const override {
    return id >= 0 && id < vocabulary() ? std::string_view(texts_[static_cast<size_t>(id)]) : std::string_view();
  }
  std::unique_ptr<Encoder> encoder() const override;
  std::unique_ptr<Encoder> special_encoder() const override;
  std::string name() const override { return fmt::format("tokenizer.json:{}", vocabulary()); }
  json to_json() const override { return {{"kind", "tokenizer.json"}, {"text", text_}, {"separator", separator_}}; }
  int32_t separator() const override { return separator_; }
  size_t cut(std::string_view text, size_t from) const override {
    const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
    for (size_t at = from ? from : 1; cuts_ && at + 1 < text.size(); ++at)
      if (text[at] == ' ' && letter(text[at - 1]) && letter(text[at + 1])) return at;
    return text.size();
  }

 private:
  friend class JsonEncoder;

  void require_token(int32_t id) const {
    if (id < 0 || id >= vocabulary()) throw input_error("tokenizer.json names the token {}, which there is not", id);
  }

  TokenFinder finder(bool special, bool normalized) const {
    std::vector<AddedToken> some;
    for (AddedToken token : added_) {
      if (token.normalized != normalized || (token.special && !special)) continue;
      if (normalized && normalizer_) normalizer_->apply(token.content);
      some.push_back(std::move(token));
    }
    return TokenFinder(std::move(some));
  }

  std::string text_;
  int32_t separator_;
  std::vector<AddedToken> added_;
  std::unique_ptr<const Normalizer> normalizer_;
  std::unique_ptr<const PreTokenizer> pre_tokenizer_;
  std::unique_ptr<const PieceModel> model_;
  Template template_;
  std::vector<std::string> texts_;
  TokenFinder finders_[2][2];  // with special tokens; in normalized text
  bool cuts_ = false;
};

class JsonEncoder final : public Encoder {
 public:
  JsonEncoder(const JsonTokenizer& tokenizer, bool special)
      : t_(tokenizer), special_(special), encoder_(tokenizer.model_->encoder()) {}

  void append(std::string_view text, std::vector<int32_t>& out) override {
    if (special_) out.insert(out.end(), t_.template_.before.begin(), t_.template_.before.end());
    bool starts = true;
    each_run(text, [&](std::string_view run, bool valid) {
      if (valid)
        valid_text(run, starts, out);
      else
        encoder_->append(run, out);
      starts = false;
    });
    if (special_) out.insert(out.end(), t_.template_.after.begin(), t_.template_.after.end());
  }

 private:
  void valid_text(std::string_view text, bool starts, std::vector<int32_t>& out) {
    for (const TokenFinder::Segment& s : t_.finders_[special_][false].find(text)) {
      if (s.id >= 0) {
        out.push_back(s.id);
        continue;
      }
      std::string normal(text.substr(s.begin, s.end - s.begin));
      if (t_.normalizer_) t_.normalizer_->apply(normal);
      for (const TokenFinder::Segment& n : t_.finders_[special_][true].find(normal)) {
        if (n.id >= 0)
          out.push_back(n.id);
        else
          pieces(std::string_view(normal).substr(n.begin, n.end - n.begin), starts && s.begin == 0 && n.begin == 0,
                 out);
      }
    }
  }

  void pieces(std::string_view text, bool starts, std::vector<int32_t>& out) {
    Pieces pieces;
    pieces.list.push_back({text, starts});
    if (t_.pre_tokenizer_) t_.pre_tokenizer_->split(pieces);
    for (const Pieces::Piece& piece : pieces.list) encoder_->append(piece.text, out);
  }

  const JsonTokenizer& t_;
  bool special_;
  std::unique_ptr<PieceEncoder> encoder_;
};

std::unique_ptr<Encoder> JsonTokenizer::encoder() const {
  return std::make_unique<JsonEncoder>(*this, false);
}

std::unique_ptr<Encoder> JsonTokenizer::special_encoder() const {
  return std::make_unique<JsonEncoder>(*this, true);
}

int32_t separator_of(const json& whole, const std::string& end) {
  const auto added = read_added_tokens(whole.value("added_tokens", json()));
  for (const AddedToken& token : added)
    if (!end.empty() && token.content == end) return token.id;
  for (const char* usual : {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>"})
    for (const AddedToken& token : added)
      if (token.content == usual) return token.id;
  const auto model = whole.find("model");
  if (model != whole.end() && model->is_object() && model->value("vocab", json()).is_object())
    for (const char* nul : {"\xc4\x80", "<0x00>"})  // U+0100 is the letter of the byte 0
      if (const auto found = model->at("vocab").find(nul);
          found != model->at("vocab").end() && found->is_number_integer())
        return found->get<int32_t>();
  throw input_error("tokenizer.json has no token that ends a text; name one as eos_token in tokenizer_config.json");
}

}  // namespace

std::string end_token_beside(const std::string& file) {
  const std::filesystem::path path = std::filesystem::path(file).parent_path() / "tokenizer_config.json";
  if (!std::filesystem::exists(path)) return "";
  const json config = parse_json(read_text_file(path.string()));
  if (!config.is_object()) return "";
  json end = config.value("eos_token", json());
  if (end.is_object()) end = end.value("content", json());
  return end.is_string() ? end.get<std::string>() : "";
}

std::shared_ptr<const Tokenizer> tokenizer_from_json(const json& object) {
  const auto text = object.find("text"), separator = object.find("separator");
  if (text == object.end() || !text->is_string() || separator == object.end() || !separator->is_number_integer())
    throw input_error("the tokenizer has no \"text\" or \"separator\": the model file is damaged");
  return std::make_shared<JsonTokenizer>(text->get<std::string>(), separator->get<int32_t>());
}

json read_tokenizer_json(const std::string& path) {
  const std::string text = read_text_file(path);
  if (valid_utf8_prefix(text) != text.size()) throw input_error("'{}' is not UTF-8", path);
  const json whole = require_json(text, "tokenizer.json");
  if (!whole.is_object()) throw input_error("'{}' is not an object", path);
  const std::string end = end_token_beside(path);
  json object = {{"kind", "tokenizer.json"}, {"text", text}, {"separator", separator_of(whole, end)}};
  tokenizer_from_json(object);  // refuses what is not understood
  return object;
}

}  // namespace hone
