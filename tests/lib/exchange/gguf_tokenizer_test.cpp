// Tokenizers in GGUF files, there and back.
#include "exchange/gguf_tokenizer.h"

#include <doctest/doctest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "dataset/base64.h"
#include "dataset/sentence_piece.h"
#include "dataset/sentence_piece_file.h"
#include "dataset/tokenizer.h"
#include "exchange/gguf_file.h"
#include "exchange/tokenizer_files.h"
#include "lib/exchange/gguf_models.h"
#include "support/failure.h"

using namespace hone;
using namespace hone::test;

TEST_CASE("tokenizers and keys of a file") {
  const Folder folder("gguf-keys");
  export_gguf(with_bytes("llama"), folder / "m.gguf", {});
  const GgufFile file(folder / "m.gguf");
  CHECK(file.text("tokenizer.ggml.model") == "gpt2");
  CHECK(file.texts("tokenizer.ggml.tokens").size() == 260);
  CHECK(file.texts("tokenizer.ggml.tokens")[259] == "[PAD259]");
  CHECK(file.integers("tokenizer.ggml.token_type")[259] == 5);
  CHECK(file.texts("tokenizer.ggml.merges").empty());
  CHECK(file.integer("tokenizer.ggml.eos_token_id") == 0);
  CHECK(file.tensors().at("rope_freqs.weight").shape == Shape{4});
  CHECK(file.tensors().at("blk.1.attn_k.weight").shape == Shape{8, 16});
}

namespace {

// SentencePiece's byte pairs with byte fallback of the fixtures, after `change`.
Model with_sentence_pieces(const std::function<void(SentencePieceFile&)>& change) {
  std::ifstream stream(HONE_TEST_DATA "/sentence_pieces.json");
  const nlohmann::json fixtures = nlohmann::json::parse(stream);
  for (const nlohmann::json& known : fixtures["models"]) {
    if (known["name"] != "bpe with bytes") continue;
    SentencePieceFile file = parse_sentence_piece(from_base64(known["model"].get<std::string>()).value(), "it");
    for (SentencePieceFile::Piece& piece : file.pieces)  // llama.cpp puts a space behind a user's piece
      if (piece.type == SentencePieceFile::user_defined) piece.type = SentencePieceFile::normal;
    change(file);
    Model model = with_bytes(
        "llama", [&](Config& c) { c.context = 64; }, static_cast<int64_t>(file.pieces.size()) + 3);
    model.tokenizer = sentence_piece_json(sentence_piece_bytes(file), "it", "");
    return model;
  }
  FAIL("no such model");
  return {};
}

}  // namespace

TEST_CASE("pre-tokenizers by their names, there and back") {
  const Folder folder("gguf-pre");
  const nlohmann::json bytes = nlohmann::json::parse(tokenizer_files(nullptr).front().second);
  std::vector<std::string> letters(256);
  for (const auto& [text, id] : bytes["model"]["vocab"].items()) letters[id.get<size_t>()] = text;
  for (const auto& [name, written] :
       {std::pair("gpt-2", "gpt-2"), std::pair("llama-bpe", "llama-bpe"), std::pair("qwen2", "qwen2"),
        std::pair("smollm", "smollm"), std::pair("olmo", "gpt-2")}) {
    CAPTURE(name);
    GgufContent content;
    content.values = {{"tokenizer.ggml.model", std::string("gpt2")},
                      {"tokenizer.ggml.pre", std::string(name)},
                      {"tokenizer.ggml.tokens", letters},
                      {"tokenizer.ggml.merges", std::vector<std::string>()},
                      {"tokenizer.ggml.eos_token_id", int64_t{0}}};
    write_gguf(folder / "m.gguf", true, content, [](const GgufTensor& t) { return Tensor::zeros(t.shape); });
    const nlohmann::json read = tokenizer_from_gguf(GgufFile(folder / "m.gguf"));
    CHECK(make_tokenizer(read)->vocabulary() == 256);
    GgufContent again;
    add_gguf_tokenizer(read, 256, again);
    CHECK(std::get<std::string>(again.values[1].second) == written);
  }
  const auto said = [&](const nlohmann::json& pre_tokenizer) {
    nlohmann::json whole = bytes;
    whole["pre_tokenizer"] = pre_tokenizer;
    GgufContent content;
    return failure([&] {
      add_gguf_tokenizer({{"kind", "tokenizer.json"}, {"text", whole.dump()}, {"separator", 0}}, 256, content);
    });
  };
  nlohmann::json falls_back = bytes;
  falls_back["model"]["byte_fallback"] = true;
  GgufContent nothing;
  CHECK(failure([&] {
          add_gguf_tokenizer({{"kind", "tokenizer.json"}, {"text", falls_back.dump()}, {"separator", 0}}, 256, nothing);
        }).find("with its tokenizer.model") != std::string::npos);
  const nlohmann::json level = bytes["pre_tokenizer"], together = {{"type", "Digits"}, {"individual_digits", false}};
  CHECK(said(level) == "none");
  CHECK(said({{"type", "Sequence"}, {"pretokenizers", {together, level}}}).find("pre-tokenizer") != std::string::npos);
}

TEST_CASE("SentencePiece's byte pairs there and back") {
  const Folder folder("gguf-pieces");
  for (const bool space : {true, false}) {
    CAPTURE(space);
    const Model model = with_sentence_pieces([=](SentencePieceFile& f) { f.add_space = space; });
    export_gguf(model, folder / "m.gguf", {true, false, "same"});
    const auto before = make_tokenizer(model.tokenizer);
    const GgufFile file(folder / "m.gguf");
    CHECK(file.text("tokenizer.ggml.model") == "llama");
    CHECK(file.boolean("tokenizer.ggml.add_space_prefix", !space) == space);
    CHECK(file.integer("tokenizer.ggml.eos_token_id") == 2);
    CHECK(file.integer("tokenizer.ggml.bos_token_id") == 1);
    CHECK(file.integers("tokenizer.ggml.token_type").back() == 5);
    CHECK(file.fractions("tokenizer.ggml.scores").size() == static_cast<size_t>(before->vocabulary()) + 3);
    const auto after = make_tokenizer(model_of_gguf(folder / "m.gguf").tokenizer);
    CHECK(after->vocabulary() == before->vocabulary());
    CHECK(after->separator() == before->separator());
    for (const char* text : {"the river follows", " a  stone", "naïve café 東京 \n\t", "aaaaab", "", "</s> <0x0A>"}) {
      CAPTURE(text);
      CHECK(after->encode(text) == before->encode(text));
    }
  }
  const std::pair<std::function<void(SentencePieceFile&)>, const char*> refused[] = {
      {[](SentencePieceFile& f) { f.algorithm = SentencePieceFile::unigram; }, "unigram"},
      {[](SentencePieceFile& f) { f.byte_fallback = false; }, "does not fall back to bytes"},
      {[](SentencePieceFile& f) { f.remove_extra_spaces = true; }, "changes the text"},
      {[](SentencePieceFile& f) { f.space_behind_words = true; }, "changes the text"},
      {[](SentencePieceFile& f) { f.pieces.back().type = SentencePieceFile::user_defined; }, "pieces of a user's"}};
  for (const auto& [change, part] : refused) {
    CAPTURE(part);
    const std::string said = failure([&] { export_gguf(with_sentence_pieces(change), folder / "n.gguf", {}); });
    CHECK(said.starts_with("2 "));
    CHECK(said.find(part) != std::string::npos);
  }
}
