#include "dataset/tokenizer.h"

#include <doctest/doctest.h>

#include <functional>
#include <numeric>

#include "base/error.h"
#include "dataset/bpe.h"

using hone::Error;
using hone::ErrorKind;
using hone::make_tokenizer;
using hone::parse_tokenizer_spec;
using nlohmann::json;

namespace {

ErrorKind kind_of_refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    CHECK(std::string(error.what()).size() > 20);
    return error.kind();
  }
  FAIL("nothing was thrown");
  return ErrorKind::internal;
}

}  // namespace

TEST_CASE("the byte tokenizer maps bytes to themselves") {
  const auto t = hone::byte_tokenizer();
  std::string all(256, '\0');
  std::iota(all.begin(), all.end(), '\0');
  const auto ids = t->encode(all);
  REQUIRE(ids.size() == 256);
  for (int32_t i = 0; i < 256; ++i) CHECK(ids[static_cast<size_t>(i)] == i);
  CHECK(t->decode(ids) == all);
  CHECK(t->vocabulary() == 256);
  CHECK(t->bytes_of(200) == 1);
  CHECK(t->name() == "bytes");
  CHECK(t->ids_are_bytes());
  CHECK(make_tokenizer(t->to_json())->name() == "bytes");
  CHECK(make_tokenizer(json())->name() == "bytes");
}

TEST_CASE("ids outside of the vocabulary stand for no text, as a padded model may draw them") {
  const auto bpe = hone::make_bpe({{'a', 'b'}});
  for (const auto& t : {hone::byte_tokenizer(), bpe}) {
    CHECK(t->bytes_of(t->vocabulary()) == 0);
    CHECK(t->bytes_of(-1) == 0);
    const int32_t ids[] = {'x', 100000, 'y', -5};
    CHECK(t->decode(ids) == "xy");
  }
}

TEST_CASE("a BPE tokenizer survives its JSON, as an object and as text") {
  const auto t = hone::make_bpe({{'a', 'b'}, {256, 'c'}, {256, 257}});
  CHECK(t->name() == "bpe:259");
  CHECK(t->text_of(258) == "ababc");
  CHECK(t->bytes_of(258) == 5);
  for (const json& j : {t->to_json(), json::parse(t->to_json().dump())}) {
    const auto copy = make_tokenizer(j);
    CHECK(copy->to_json() == t->to_json());
    CHECK(copy->encode("xababcab") == t->encode("xababcab"));
  }
}

TEST_CASE("a damaged or hostile tokenizer is an input error") {
  const char* bad[] = {
      R"([])",
      R"("bytes")",
      R"({})",
      R"({"kind": 3})",
      R"({"kind": "sentencepiece"})",
      R"({"kind": "bpe"})",
      R"({"kind": "bpe", "merges": []})",
      R"({"kind": "bpe", "pretokenizer": "other", "merges": []})",
      R"({"kind": "bpe", "pretokenizer": "gpt2", "merges": {}})",
      R"({"kind": "bpe", "pretokenizer": "gpt2", "merges": [[1]]})",
      R"({"kind": "bpe", "pretokenizer": "gpt2", "merges": [[1, 2, 3]]})",
      R"({"kind": "bpe", "pretokenizer": "gpt2", "merges": [["a", "b"]]})",
      R"({"kind": "bpe", "pretokenizer": "gpt2", "merges": [[1, 256]]})",
      R"({"kind": "bpe", "pretokenizer": "gpt2", "merges": [[-1, 2]]})",
      R"({"kind": "bpe", "pretokenizer": "gpt2", "merges": [[1, 2.5]]})",
      R"({"kind": "bpe", "pretokenizer": "gpt2", "merges": [[1, 4294967298]]})",
      R"({"kind": "bpe", "pretokenizer": "gpt2", "merges": [[1, 18446744073709551615]]})",
      R"({"kind": "bpe", "pretokenizer": "gpt2", "merges": [[1, 2], [1, 2]]})",
  };
  for (const char* text : bad) {
    CAPTURE(text);
    CHECK(kind_of_refusal([&] { make_tokenizer(json::parse(text)); }) == ErrorKind::input);
  }
  // Every merge doubles the token: 40 of them would be a terabyte.
  json doubling = {{"kind", "bpe"}, {"pretokenizer", "gpt2"}, {"merges", json::array()}};
  doubling["merges"].push_back({65, 65});
  for (int i = 0; i < 40; ++i) doubling["merges"].push_back({256 + i, 256 + i});
  CHECK(kind_of_refusal([&] { make_tokenizer(doubling); }) == ErrorKind::input);
}

TEST_CASE("what a person writes after --tokenizer") {
  CHECK(parse_tokenizer_spec("bytes").kind == "bytes");
  CHECK(parse_tokenizer_spec("bytes").vocabulary == 256);
  CHECK(parse_tokenizer_spec("bpe:4096").kind == "bpe");
  CHECK(parse_tokenizer_spec("bpe:4096").vocabulary == 4096);
  for (const char* bad : {"", "byte", "bytes:256", "bpe", "bpe:", "bpe:x", "bpe:40k", "bpe:-1", "bpe:256",
                          "bpe:99999999999", "BPE:300"}) {
    CAPTURE(bad);
    CHECK(kind_of_refusal([&] { parse_tokenizer_spec(bad); }) == ErrorKind::usage);
  }
}
