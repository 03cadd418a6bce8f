#include "dataset/llama2c_tokenizer.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <limits>

#include "base/error.h"
#include "dataset/base64.h"
#include "dataset/sentence_piece.h"
#include "dataset/tokenizer_file.h"
#include "support/failure.h"
#include "support/scratch.h"

using namespace hone;
using namespace hone::test;
using nlohmann::json;

namespace {

template <class T>
std::string bytes_of(T number) {
  return std::string(reinterpret_cast<const char*>(&number), sizeof number);
}

std::string entry(float score, const std::string& text) {
  return bytes_of(score) + bytes_of(static_cast<int32_t>(text.size())) + text;
}

// As llama2.c's tokenizer.py writes the pieces of a SentencePiece model.
std::string llama2c_file(const SentencePieceFile& file) {
  std::string out = bytes_of(int32_t{32});
  for (size_t id = 0; id < file.pieces.size(); ++id) {
    std::string text = file.pieces[id].text;
    if (id == 1) text = "\n<s>\n";
    if (id == 2) text = "\n</s>\n";
    for (size_t at = 0; (at = text.find("\xe2\x96\x81", at)) != text.npos; ++at) text.replace(at, 3, " ");
    out += entry(file.pieces[id].score, text);
  }
  return out;
}

// The model of tests/fixtures/make_sentence_piece_fixtures.py that is of llama2.c's kind.
const json& model() {
  static const json all = json::parse(std::ifstream(HONE_TEST_DATA "/sentence_pieces.json"));
  for (const json& one : all["models"])
    if (one["name"] == "bpe with bytes") return one;
  throw internal_error("no such fixture");
}

SentencePieceFile pieces() {
  return parse_sentence_piece(from_base64(model()["model"].get<std::string>()).value(), "x");
}

std::string refusal(const std::string& bytes) {
  return failure([&] { parse_llama2c_tokenizer(bytes, "'x'"); });
}

}  // namespace

TEST_CASE("llama2.c: the tokens of a tokenizer.bin are SentencePiece's own") {
  const Scratch scratch;
  const std::string path = scratch / "tokenizer.bin";
  std::ofstream(path, std::ios::binary) << llama2c_file(pieces());
  const auto tokenizer = make_tokenizer(read_tokenizer_file(path));
  const json all = json::parse(std::ifstream(HONE_TEST_DATA "/sentence_pieces.json"));
  const auto texts = all["texts"].get<std::vector<std::string>>();
  size_t compared = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].find("user") != std::string::npos || texts[i].find("zz") != std::string::npos) continue;  // not in it
    CAPTURE(texts[i]);
    CHECK(tokenizer->encode(texts[i]) == model()["ids"][i].get<std::vector<int32_t>>());
    ++compared;
  }
  CHECK(compared > 20);
  CHECK(tokenizer->separator() == 2);
  CHECK(tokenizer->text_of(2) == "</s>");
  CHECK(make_tokenizer(tokenizer_beside(std::filesystem::path(path).parent_path().string(), tokenizer->vocabulary()))
            ->vocabulary() == tokenizer->vocabulary());
}

TEST_CASE("llama2.c: a vocabulary of pieces survives being written") {
  const SentencePieceFile file = pieces();
  const SentencePieceFile again = parse_sentence_piece(sentence_piece_bytes(file), "x");
  REQUIRE(again.pieces.size() == file.pieces.size());
  for (size_t id = 0; id < file.pieces.size(); ++id) {
    CHECK(again.pieces[id].text == file.pieces[id].text);
    CHECK(again.pieces[id].score == file.pieces[id].score);
    CHECK(again.pieces[id].type == file.pieces[id].type);
  }
  CHECK(again.algorithm == file.algorithm);
  CHECK(again.byte_fallback == file.byte_fallback);
  CHECK(again.remove_extra_spaces == file.remove_extra_spaces);
  CHECK(again.add_space == file.add_space);
  CHECK(again.end == file.end);
  SentencePieceFile endless = file;
  endless.end = -1;
  CHECK(parse_sentence_piece(sentence_piece_bytes(endless), "x").end == -1);
}

TEST_CASE("llama2.c: files that are no tokenizer.bin are one error") {
  const std::string whole = llama2c_file(pieces());
  for (const std::string& bytes :
       {std::string(), std::string("abc"), whole.substr(0, whole.size() - 1), bytes_of(int32_t{0}) + whole.substr(4),
        bytes_of(int32_t{5}) + entry(0, "<unk>"), whole + entry(0, "\xff"),
        whole + bytes_of(0.0f) + bytes_of(int32_t{-1}), whole + entry(std::numeric_limits<float>::infinity(), "a")})
    CHECK(refusal(bytes) == "3 'x' is no tokenizer.bin of llama2.c, or damaged");
}
