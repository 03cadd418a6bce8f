#include "dataset/sentence_piece.h"

#include <doctest/doctest.h>

#include <fstream>

#include "base/error.h"
#include "dataset/base64.h"
#include "dataset/sentence_piece_file.h"
#include "dataset/tokenizer_file.h"
#include "dataset/tokenizer_json.h"
#include "support/failure.h"
#include "support/scratch.h"

using namespace hone;
using namespace hone::test;
using nlohmann::json;

namespace {

using Ids = std::vector<int32_t>;

// Of tests/fixtures/make_sentence_piece_fixtures.py.
const json& fixture() {
  static const json all = json::parse(std::ifstream(HONE_TEST_DATA "/sentence_pieces.json"));
  return all;
}

std::string model_named(const std::string& name) {
  for (const json& model : fixture()["models"])
    if (model["name"] == name) return from_base64(model["model"].get<std::string>()).value();
  FAIL("no model " << name);
  return "";
}

std::string refusal(const std::string& bytes) {
  try {
    sentence_piece_json(bytes, "'x'", "");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.what();
  }
  return "";
}

// A message's field of bytes.
std::string field(int number, const std::string& bytes) {
  REQUIRE(bytes.size() < 128);
  return std::string(1, static_cast<char>(number << 3 | 2)) + static_cast<char>(bytes.size()) + bytes;
}
std::string piece(const std::string& text, char type) {
  return field(1, field(1, text) + std::string("\x15\0\0\0\0\x18", 6) + type);
}

}  // namespace

TEST_CASE("SentencePiece: its own tokens") {
  const auto texts = fixture()["texts"].get<std::vector<std::string>>();
  size_t models = 0;
  for (const json& model : fixture()["models"]) {
    CAPTURE(model["name"].get<std::string>());
    const auto tokenizer =
        make_tokenizer(sentence_piece_json(from_base64(model["model"].get<std::string>()).value(), "x", ""));
    for (size_t i = 0; i < texts.size(); ++i) {
      CAPTURE(texts[i]);
      CHECK(tokenizer->encode(texts[i]) == model["ids"][i].get<Ids>());
    }
    CHECK(make_tokenizer(tokenizer->to_json())->encode(texts[3]) == model["ids"][3].get<Ids>());
    ++models;
  }
  CHECK(models == 5);
}

TEST_CASE("a compiled normalizer in tokenizer.json: the tokens of the library that reads it") {
  const auto texts = fixture()["texts"].get<std::vector<std::string>>();
  const json& known = fixture()["precompiled"];
  const auto tokenizer = tokenizer_from_json({{"text", known["tokenizer"]}, {"separator", 2}});
  for (size_t i = 0; i < texts.size(); ++i) {
    CAPTURE(texts[i]);
    CHECK(tokenizer->encode(texts[i]) == known["ids"][i].get<Ids>());
  }
}

TEST_CASE("SentencePiece: texts come back, special tokens where they are asked for, bytes that are no text") {
  const auto bytes = make_tokenizer(sentence_piece_json(model_named("bpe with bytes"), "x", ""));
  const std::string text = "the 東京 river\n\tover é";
  CHECK(bytes->decode(bytes->encode(text)) == " " + text);
  CHECK(bytes->text_of(bytes->separator()) == "</s>");
  CHECK(bytes->name().starts_with("tokenizer.model:"));
  Ids ids;
  bytes->special_encoder()->append("a</s>b", ids);
  CHECK(std::count(ids.begin(), ids.end(), bytes->separator()) == 1);
  CHECK(std::count(ids.begin(), ids.end(), 1) == 0);
  const Ids plain = bytes->encode("a</s>b");
  CHECK(std::count(plain.begin(), plain.end(), bytes->separator()) == 0);
  CHECK(bytes->decode(bytes->encode("a\xff\xc3z")) == " a\xef\xbf\xbd\xef\xbf\xbdz");
  const json other = sentence_piece_json(model_named("bpe"), "x", "<s>");
  CHECK(other["separator"] == 1);
}

TEST_CASE("SentencePiece: files that are none, damaged, or of what is not understood") {
  const std::string whole = model_named("bpe");
  for (size_t cut = 0; cut < whole.size(); cut += 1 + cut / 7) {
    CAPTURE(cut);
    refusal(whole.substr(0, cut));  // an error or a shorter vocabulary, nothing else
  }
  uint64_t state = 1;
  for (int round = 0; round < 400; ++round) {
    std::string broken = whole;
    for (int k = 0; k < 4; ++k) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      broken[(state >> 33) % broken.size()] = static_cast<char>(state >> 20);
    }
    refusal(broken);
  }
  CHECK(refusal("").find("no tokenizer.model") != std::string::npos);
  CHECK(refusal("plain text").find("no tokenizer.model") != std::string::npos);
  const std::string unknown = piece("<unk>", 2), end = piece("</s>", 3);
  CHECK(refusal(unknown + piece("a", 1) + end).empty());
  CHECK(refusal(piece("a", 1) + piece("b", 1) + end).find("unknown") != std::string::npos);
  CHECK(refusal(unknown + piece("a", 1) + end + piece("a", 1)).find("twice") != std::string::npos);
  CHECK(refusal(unknown + piece("a", 1)).find("ends a text") != std::string::npos);
  CHECK(refusal(unknown + piece("", 1) + end).find("empty") != std::string::npos);
  CHECK(refusal(unknown + piece("a", 1) + end + field(2, "\x18\x03")).find("model_type 3") != std::string::npos);
  CHECK(refusal(unknown + piece("a", 1) + end + field(3, field(2, "abc"))).find("normalizer") != std::string::npos);
}

TEST_CASE("tokenizers in files are known by what is in them") {
  const Scratch scratch;
  const std::string folder = scratch / "";
  CHECK(tokenizer_beside(folder, 1000).is_null());
  std::ofstream(scratch / "tokenizer.model", std::ios::binary) << model_named("bpe");
  CHECK(tokenizer_beside(folder, 1000)["kind"] == "tokenizer.model");
  CHECK(kind_of_failure([&] { tokenizer_beside(folder, 10); }) == ErrorKind::input);
  std::ofstream(scratch / "tokenizer_config.json") << R"({"eos_token": {"content": "<s>"}})";
  CHECK(read_tokenizer_file(scratch / "tokenizer.model")["separator"] == 1);
  std::ofstream(scratch / "added_tokens.json") << "{}";
  CHECK(kind_of_failure([&] { tokenizer_beside(folder, 1000); }) == ErrorKind::input);
  std::ofstream(scratch / "tokenizer.json") << fixture()["precompiled"]["tokenizer"].get<std::string>();
  CHECK(tokenizer_beside(folder, 1000)["kind"] == "tokenizer.json");
  CHECK(kind_of_failure([&] { read_tokenizer_file(scratch / "none.model"); }) == ErrorKind::input);
}

TEST_CASE("base64 of all lengths and what is none") {
  for (const auto& [bytes, text] : {std::pair<std::string, std::string>{"", ""},
                                    {"f", "Zg=="},
                                    {"fo", "Zm8="},
                                    {"foo", "Zm9v"},
                                    {"foob", "Zm9vYg=="},
                                    {std::string("\0\xff\x10", 3), "AP8Q"}}) {
    CHECK(to_base64(bytes) == text);
    CHECK(from_base64(text) == bytes);
  }
  for (const char* wrong : {"Zg=", "Z===", "Zm9*", "=Zm9"}) CHECK(!from_base64(wrong));
}
