#include "exchange/safetensors.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "base/error.h"
#include "lib/exchange/folders.h"
#include "support/turns.h"

using namespace hone;
using namespace hone::test;

namespace {

// What is wrong with a header; "" where nothing is.
std::string complaint(const std::string& header, uint64_t data) {
  try {
    parse_safetensors_header(header, data, "x");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.what();
  }
  return "";
}

bool says(const std::string& header, uint64_t data, const char* what) {
  const std::string found = complaint(header, data);
  CAPTURE(found);
  CHECK(found.find(what) != std::string::npos);
  return found.find(what) != std::string::npos;
}

std::string file_of(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + data;
}

}  // namespace

TEST_CASE("numbers of 16 bits: every one there and back, and rounding to even") {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float x = from_half(static_cast<uint16_t>(bits));
    if (std::isnan(x))
      CHECK(std::isnan(from_half(to_half(x))));
    else
      CHECK(to_half(x) == bits);
  }
  CHECK(from_half(0x3c01) == 1.0f + 1.0f / 1024);
  CHECK(from_half(0x0001) == std::ldexp(1.0f, -24));
  CHECK(from_half(0xfbff) == -65504.0f);
  CHECK(to_half(1.0f + 1.0f / 2048) == 0x3c00);  // half way: to even
  CHECK(to_half(1.0f + 3.0f / 2048) == 0x3c02);
  CHECK(to_half(65519.0f) == 0x7bff);
  CHECK(to_half(65520.0f) == 0x7c00);
  CHECK(to_half(1e30f) == 0x7c00);
  CHECK(to_half(std::ldexp(1.0f, -25)) == 0);  // half of the smallest: to even
  CHECK(to_half(std::ldexp(1.5f, -25)) == 1);
  CHECK(to_half(-std::numeric_limits<float>::infinity()) == 0xfc00);
}

TEST_CASE("headers: the rules of the format's own reader") {
  const std::string a = R"("a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]})";
  const std::string b = R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]})";
  CHECK(complaint("{" + a + "," + b + "}  ", 22) == "");
  const auto tensors = parse_safetensors_header("{" + b + "," + a + R"(,"__metadata__":{"format":"pt"}})", 22, "x");
  REQUIRE(tensors.size() == 2);
  CHECK(tensors[0].name == "a");
  CHECK(tensors[1].shape == Shape{3});
  CHECK(complaint("{}", 0) == "");
  CHECK(complaint(R"({"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4) == "");
  CHECK(complaint(R"({"e":{"dtype":"F32","shape":[0,9],"data_offsets":[0,0]}})", 0) == "");
  says("{" + a + "," + b + "}", 23, "23 bytes of data where the header tells of 22");
  says("{" + a + "}", 15, "15 bytes of data");
  says(" {}", 0, "begin with '{'");
  says("", 0, "begin with '{'");
  says("{" + a, 16, "no JSON");
  says("{" + a + "}x", 16, "no JSON");
  says("{\"\xff\":{}}", 0, "no JSON");
  says("{" + a + "," + a + "}", 16, "twice");
  says(R"({"a":{"dtype":"F32","shape":[4]}})", 16, "lacks");
  says(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0]}})", 16, "two numbers");
  says(R"({"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}})", 16, "negative");
  says(R"({"a":{"dtype":"F32","shape":[4.0],"data_offsets":[0,16]}})", 16, "fraction");
  says(R"({"a":{"dtype":"F4","shape":[4],"data_offsets":[0,16]}})", 16, "unknown type 'F4'");
  says(R"({"a":{"dtype":"F32","shape":[5],"data_offsets":[0,16]}})", 16, "another size");
  says(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}})", 16, "gap");
  says(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[4,20]}})", 20, "gap");
  says("{" + a + R"(,"b":{"dtype":"F32","shape":[4],"data_offsets":[12,28]}})", 28, "lies over another");
  says(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, "larger than any file");
  says(R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,16]}})", 16, "too large");
  says(R"({"a":[1]})", 0, "list where none");
  says(R"({"__metadata__":{"a":{}}})", 0, "object where none");
  says("{\"a\":{\"x\":" + std::string(70, '[') + std::string(70, ']') + "}}", 0, "nested too deeply");
}

TEST_CASE("files that are cut or lie about their header") {
  const Folder folder("safetensors");
  const auto said = [&](const std::string& bytes) -> std::string {
    put_file(folder / "x.safetensors", bytes);
    try {
      const SafetensorsFile file(folder / "x.safetensors");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::input);
      return error.what();
    }
    return "";
  };
  CHECK(said(file_of("{}", "")) == "");
  CHECK(said("").find("empty") != std::string::npos);
  CHECK(said("1234567").find("too short") != std::string::npos);
  CHECK(said(file_of("{}", "").substr(0, 9)).find("cut short") != std::string::npos);
  CHECK(said(std::string(8, '\xff') + "{}").find("no safetensors file") != std::string::npos);
  CHECK(said(file_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", "x")).find("1 bytes of data") !=
        std::string::npos);
}

// Damaged copies of good models: each is read whole or refused, in one sentence. More under the sanitizers, which see
// what goes wrong.
TEST_CASE("thousands of mutations crash nothing") {
  const Folder folder("mutations");
  std::mt19937 random(20261128);
  const auto below = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random); };
  int refused = 0, read = 0;
  for (const std::string name : {"mistral", "qwen2"}) {
    const std::string weights = bytes_of_file(fixture_folder(name) + "/model.safetensors"),
                      config = bytes_of_file(fixture_folder(name) + "/config.json");
    uint64_t header = 0;
    std::memcpy(&header, weights.data(), 8);
    for (int64_t i = 0; i < rounds_of(500, 1000); ++i) {
      std::string w = weights, c = config;
      std::string& target = i % 3 == 0 ? c : w;
      const size_t reach = i % 3 == 0 ? c.size() : 8 + header;
      for (size_t edits = 1 + below(3); edits > 0; --edits) {
        const size_t at = below(std::min(reach, target.size()));
        switch (below(6)) {
          case 0:
            target[at] = static_cast<char>(below(256));
            break;
          case 1:
            target[at] = "0123456789[]{},\":-e."[below(20)];
            break;
          case 2:
            target.erase(at, 1 + below(20));
            break;
          case 3:
            target.insert(at, target.substr(below(target.size()), below(30)));
            break;
          case 4:
            target.resize(at + 1);
            break;
          default:
            target.insert(at, std::string(1 + below(9), '9'));
        }
        if (target.empty()) target = "x";
      }
      put_file(folder / "config.json", c);
      put_file(folder / "model.safetensors", w);
      try {
        model_from(folder.path.string());
        ++read;
      } catch (const Error& error) {
        CHECK(error.kind() != ErrorKind::internal);
        ++refused;
      }
    }
  }
  CHECK(refused > 500);
  CHECK(read > 5);
}
