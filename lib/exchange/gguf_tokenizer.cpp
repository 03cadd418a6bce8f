#include "exchange/gguf_tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "dataset/sentence_piece.h"
#include "dataset/sentence_piece_file.h"
#include "dataset/tokenizer.h"
#include "exchange/architecture.h"
#include "exchange/obstacles.h"
#include "exchange/settings.h"
#include "exchange/tokenizer_files.h"

namespace hone {
namespace {

// Kinds of tokens in a file: SentencePiece's.
enum TokenKind : int64_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

// A pre-tokenizer by llama.cpp's name; of those that say the same the first is written. It takes a word that is a token
// as it is, before all merges, where `whole_first`.
struct Pre {
  const char* name;
  const char* expression;  // of a Split before the bytes; null: the one of ByteLevel
  bool whole_first;
  bool digits = false;  // each is a piece, before the expression of ByteLevel
};
constexpr Pre pres[] = {
    {"gpt-2", nullptr, false},
    {"llama-bpe",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     true},
    {"qwen2",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     false},
    {"smollm", nullptr, false, true},
    {"olmo", nullptr, false}};

nlohmann::json pre_tokenizer_of(const Pre& pre) {
  const nlohmann::json level = {{"type", "ByteLevel"},
                                {"add_prefix_space", false},
                                {"trim_offsets", false},
                                {"use_regex", pre.expression == nullptr}};
  const auto before = [&](const nlohmann::json& first) {
    return nlohmann::json{{"type", "Sequence"}, {"pretokenizers", {first, level}}};
  };
  if (pre.digits) return before({{"type", "Digits"}, {"individual_digits", true}});
  if (!pre.expression) return level;
  const nlohmann::json split = {
      {"type", "Split"}, {"pattern", {{"Regex", pre.expression}}}, {"behavior", "Isolated"}, {"invert", false}};
  return before(split);
}

const Pre* find_pre(const nlohmann::json& part) {
  if (!part.is_object()) return nullptr;
  const nlohmann::json* split = nullptr;
  const nlohmann::json* level = &part;
  if (part.value("type", "") == "Sequence") {
    const nlohmann::json& list = part.at("pretokenizers");
    if (!list.is_array() || list.size() != 2) return nullptr;
    split = &list[0];
    level = &list[1];
  }
  if (level->value("type", "") != "ByteLevel" || level->value("add_prefix_space", true)) return nullptr;
  const auto first_with = [](bool digits) {
    return std::ranges::find_if(pres, [=](const Pre& pre) { return !pre.expression && pre.digits == digits; });
  };
  const bool digits = split && split->value("type", "") == "Digits" && split->value("individual_digits", false);
  if (!split || digits) return level->value("use_regex", true) ? first_with(digits) : nullptr;
  if (level->value("use_regex", true) || split->value("type", "") != "Split" || split->value("invert", false) ||
      split->value("behavior", "") != "Isolated")
    return nullptr;
  for (const Pre& pre : pres)
    if (pre.expression && split->at("pattern").value("Regex", "") == pre.expression) return &pre;
  return nullptr;
}

// So many tokens of no text, until they are put.
struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<int64_t> kinds;

  explicit Vocabulary(int64_t rows) : kinds(static_cast<size_t>(rows), unused) {
    for (int64_t id = 0; id < rows; ++id) tokens.push_back(fmt::format("[PAD{}]", id));
  }
  void put(size_t id, const std::string& text, int64_t kind) {
    tokens.at(id) = text;
    kinds.at(id) = kind;
  }
};

void add_key(GgufContent& to, const char* name, GgufValue value) {
  to.values.emplace_back(fmt::format("tokenizer.ggml.{}", name), std::move(value));
}

std::string merge_text(const nlohmann::json& merge) {
  return merge.is_string() ? merge.get<std::string>()
                           : merge.at(0).get<std::string>() + " " + merge.at(1).get<std::string>();
}

void add(const nlohmann::json& whole, int32_t separator, int64_t rows, GgufContent& to) {
  const nlohmann::json& model = whole.at("model");
  // Its merges have no scores, and another order than scores give where a piece can be joined in two ways.
  express(
      !model.value("byte_fallback", false),
      "a tokenizer.json that SentencePiece's file was made into (a folder without it, and with its tokenizer.model, "
      "becomes a model whose tokenizer GGUF has a place for)");
  const Pre* pre = find_pre(whole.value("pre_tokenizer", nlohmann::json()));
  Obstacles obstacles;
  obstacles.require(
      model.value("type", "BPE") == "BPE" && pre,
      "the tokenizer's pre-tokenizer or model (only byte pairs as GPT-2, Llama 3, Qwen 2 and SmolLM have them)");
  obstacles.require(!pre || model.value("ignore_merges", false) == pre->whole_first, "the tokenizer's 'ignore_merges'");
  const nlohmann::json normalizer = whole.value("normalizer", nlohmann::json());
  obstacles.require(normalizer.is_null() || normalizer.value("type", "") == "NFC", "the tokenizer's normalizer");
  obstacles.refuse("", "; ");
  Vocabulary all(rows);
  for (const auto& [text, id] : model.at("vocab").items()) all.put(id.get<size_t>(), text, normal);
  for (const nlohmann::json& token : whole.value("added_tokens", nlohmann::json::array()))
    all.put(token.at("id").get<size_t>(), token.at("content").get<std::string>(),
            token.value("special", false) ? control : user_defined);
  std::vector<std::string> merges;
  for (const nlohmann::json& merge : model.at("merges")) merges.push_back(merge_text(merge));
  add_key(to, "model", std::string("gpt2"));
  add_key(to, "pre", std::string(pre->name));
  add_key(to, "tokens", std::move(all.tokens));
  add_key(to, "token_type", std::move(all.kinds));
  add_key(to, "merges", std::move(merges));
  // Without an end llama.cpp takes token 11 for it.
  add_key(to, "eos_token_id", int64_t{separator});
  add_key(to, "bos_token_id", int64_t{separator});
  add_key(to, "add_bos_token", false);
}

// SentencePiece's byte pairs: pieces join by their scores there, too, but nothing else of its normalizer is there.
void add(const SentencePieceFile& file, int32_t separator, int64_t rows, GgufContent& to) {
  express(file.algorithm == SentencePieceFile::bpe, "a unigram tokenizer of SentencePiece");
  express(file.byte_fallback, "a tokenizer of SentencePiece that does not fall back to bytes");
  express(file.character_map.empty() && !file.remove_extra_spaces && file.escape_spaces && !file.space_behind_words,
          "a tokenizer of SentencePiece that changes the text, but for a space before it");
  Vocabulary all(rows);
  std::vector<double> scores(static_cast<size_t>(rows), 0.0);
  int64_t begin = separator, nothing = 0;
  for (size_t id = 0; id < file.pieces.size(); ++id) {
    const SentencePieceFile::Piece& piece = file.pieces[id];
    express(piece.type != SentencePieceFile::user_defined && piece.type != SentencePieceFile::unused,
            "a tokenizer of SentencePiece with pieces of a user's, or pieces that are not used");
    all.put(id, piece.text, piece.type);
    scores[id] = static_cast<double>(piece.score);
    if (piece.type == SentencePieceFile::unknown) nothing = static_cast<int64_t>(id);
    if (piece.type == SentencePieceFile::control && piece.text == "<s>") begin = static_cast<int64_t>(id);
  }
  add_key(to, "model", std::string("llama"));
  add_key(to, "pre", std::string("default"));
  add_key(to, "tokens", std::move(all.tokens));
  add_key(to, "scores", std::move(scores));
  add_key(to, "token_type", std::move(all.kinds));
  add_key(to, "eos_token_id", int64_t{separator});
  add_key(to, "bos_token_id", begin);
  add_key(to, "unknown_token_id", nothing);
  add_key(to, "add_space_prefix", file.add_space);
  add_key(to, "add_bos_token", false);
}

// "llama" of llama.cpp as the file of SentencePiece that says the same.
nlohmann::json sentence_pieces_of(const GgufFile& file) {
  const std::vector<std::string>& tokens = file.texts("tokenizer.ggml.tokens");
  const std::vector<double>& scores = file.fractions("tokenizer.ggml.scores");
  const std::vector<int64_t>& kinds = file.integers("tokenizer.ggml.token_type");
  if (scores.size() != tokens.size() || kinds.size() != tokens.size())
    throw input_error("{}: there are {} tokens, {} scores and {} types of them", file.where(), tokens.size(),
                      scores.size(), kinds.size());
  SentencePieceFile pieces;
  pieces.algorithm = SentencePieceFile::bpe;
  pieces.byte_fallback = true;
  pieces.remove_extra_spaces = false;
  pieces.add_space = file.boolean("tokenizer.ggml.add_space_prefix", true);
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (kinds[id] < normal || kinds[id] > byte)
      throw input_error("{}: token {} is of the type {}", file.where(), id, kinds[id]);
    pieces.pieces.push_back(
        {tokens[id], static_cast<float>(scores[id]), static_cast<SentencePieceFile::Type>(kinds[id])});
  }
  while (!pieces.pieces.empty() && pieces.pieces.back().type == SentencePieceFile::unused) pieces.pieces.pop_back();
  pieces.end = static_cast<int>(file.integer("tokenizer.ggml.eos_token_id", 2));
  return sentence_piece_json(sentence_piece_bytes(pieces), file.where() + ", its tokenizer", "");
}

}  // namespace

void add_gguf_tokenizer(const nlohmann::json& tokenizer, int64_t rows, GgufContent& to) {
  const auto made = make_tokenizer(tokenizer);
  const auto [name, text] = tokenizer_files(tokenizer).front();
  try {
    if (name == "tokenizer.model") return add(parse_sentence_piece(text, "the tokenizer"), made->separator(), rows, to);
    add(parse_foreign_json(text, "the tokenizer"), made->separator(), rows, to);
  } catch (const nlohmann::json::exception&) {
    throw input_error("the tokenizer's tokenizer.json is damaged");
  } catch (const std::out_of_range&) {
    throw input_error("the tokenizer has more tokens than the model has rows");
  }
}

nlohmann::json tokenizer_from_gguf(const GgufFile& file) {
  if (!file.has("tokenizer.ggml.model")) return nullptr;
  const std::string model = file.text("tokenizer.ggml.model");
  if (model == "llama") return sentence_pieces_of(file);
  if (model != "gpt2")
    throw input_error("{}: a tokenizer of the kind '{}' is not read (only gpt2 and llama)", file.where(), model);
  const std::string name = file.has("tokenizer.ggml.pre") ? file.text("tokenizer.ggml.pre") : "gpt-2";
  const Pre* pre = nullptr;
  std::string known;
  for (const Pre& p : pres) {
    if (name == p.name) pre = &p;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", p.name);
  }
  if (!pre) throw input_error("{}: the pre-tokenizer '{}' is not read; read are {}", file.where(), name, known);
  const std::vector<std::string>& tokens = file.texts("tokenizer.ggml.tokens");
  std::vector<int64_t> kinds(tokens.size(), normal);
  if (file.has("tokenizer.ggml.token_type")) kinds = file.integers("tokenizer.ggml.token_type");
  if (kinds.size() != tokens.size())
    throw input_error("{}: there are {} tokens and {} types of them", file.where(), tokens.size(), kinds.size());
  nlohmann::json vocabulary = nlohmann::json::object(), added = nlohmann::json::array(),
                 merges = nlohmann::json::array();
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (kinds[id] == unused) continue;
    if (kinds[id] == control || kinds[id] == user_defined)
      added.push_back({{"id", id},
                       {"content", tokens[id]},
                       {"special", kinds[id] == control},
                       {"normalized", false},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false}});
    else
      vocabulary[tokens[id]] = id;
  }
  for (const std::string& merge : file.texts("tokenizer.ggml.merges")) merges.push_back(merge);
  const nlohmann::json level = pre_tokenizer_of(pres[0]);
  const nlohmann::json whole = {
      {"version", "1.0"},
      {"added_tokens", added},
      {"pre_tokenizer", pre_tokenizer_of(*pre)},
      {"decoder", level},
      {"model", {{"type", "BPE"}, {"ignore_merges", pre->whole_first}, {"vocab", vocabulary}, {"merges", merges}}}};
  const int64_t end = file.integer("tokenizer.ggml.eos_token_id", 0);
  std::string text;
  try {
    text = whole.dump();
  } catch (const nlohmann::json::exception&) {
    throw input_error("{}: tokens are not UTF-8", file.where());
  }
  nlohmann::json object = {{"kind", "tokenizer.json"}, {"text", text}, {"separator", end}};
  make_tokenizer(object);  // refuses what is not whole
  return object;
}

}  // namespace hone
