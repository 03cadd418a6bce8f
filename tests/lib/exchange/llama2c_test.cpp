// Files of llama2.c against PyTorch's logits, and files that are none.
#include "exchange/llama2c.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstring>

#include "base/error.h"
#include "base/random.h"
#include "lib/exchange/folders.h"
#include "support/check.h"

using namespace hone;
using namespace hone::test;

namespace {

std::string file_of_version(int version) {
  return fixture_folder("llama2c-" + std::to_string(version)) + "/model.bin";
}

std::string complaint(const std::string& path) {
  try {
    model_in_memory(import_llama2c(path), path);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.what();
  }
  return "";
}

void put_number(std::string& bytes, size_t at, int32_t number) {
  std::memcpy(bytes.data() + at, &number, sizeof number);
}

void append(std::string& bytes, const std::vector<float>& numbers) {
  bytes.append(reinterpret_cast<const char*>(numbers.data()), 4 * numbers.size());
}

// The same model in version 2, and in version 1 with the numbers that its codes and scales mean.
struct Quantized {
  std::string codes, plain;

  Quantized(bool tied, int32_t group) {
    const int32_t layers = 2, sizes[] = {16, 24, layers, 4, 2, 40, 32};
    for (std::string* file : {&codes, &plain}) {
      file->assign(256, '\0');
      put_number(*file, 0, 0x616b3432);
      put_number(*file, 4, file == &codes ? 2 : 1);
      for (size_t i = 0; i < 7; ++i) put_number(*file, 8 + 4 * i, sizes[i]);
      (*file)[36] = static_cast<char>(tied);
    }
    put_number(codes, 37, group);
    Random random(5, "llama2c");
    std::vector<float> norms(2 * layers * 16 + 16);
    for (float& x : norms) x = 1 + 0.2f * static_cast<float>(random.normal());
    append(codes, norms);
    append(plain, norms);
    add(random, 40 * 16, group);
    for (const int32_t numbers : {16 * 16, 8 * 16, 8 * 16, 16 * 16, 24 * 16, 16 * 24, 24 * 16})
      for (int32_t i = 0; i < layers; ++i) add(random, numbers, group);
    if (!tied) add(random, 40 * 16, group);
  }

 private:
  void add(Random& random, int32_t numbers, int32_t group) {
    std::vector<float> scales, values;
    for (int32_t i = 0; i < numbers; ++i) {
      if (i % group == 0) scales.push_back(0.001f + 0.004f * static_cast<float>(random.below(100)) / 100);
      const int code = static_cast<int>(random.below(255)) - 127;
      codes += static_cast<char>(static_cast<int8_t>(code));
      values.push_back(static_cast<float>(code) * scales.back());
    }
    append(codes, scales);
    append(plain, values);
  }
};

}  // namespace

TEST_CASE("logits of both versions are PyTorch's") {
  for (const int version : {0, 1}) {
    CAPTURE(version);
    const std::string path = file_of_version(version);
    CHECK(is_llama2c(path));
    const Model model = model_in_memory(import_llama2c(path), path);
    CHECK(model.transformer->config().tied == (version == 1));
    const nlohmann::json expected =
        nlohmann::json::parse(bytes_of_file(fixture_folder("llama2c-" + std::to_string(version)) + "/expected.json"));
    const std::vector<int32_t> tokens = expected.at("tokens").get<std::vector<int32_t>>();
    const Call call = model.transformer->call(Batch::whole(1, static_cast<int64_t>(tokens.size())), DType::f32);
    const Tensor logits = model.transformer->logits(model.transformer->hidden(tokens, call).value());
    double largest = 0;
    for (size_t t = 0; t < tokens.size(); ++t)
      for (size_t v = 0; v < 40; ++v)
        largest = std::max(largest, std::abs(static_cast<double>(logits.data<float>()[t * 40 + v]) -
                                             expected.at("logits").at(t).at(v).get<double>()));
    CHECK(largest < 1e-4);
  }
}

TEST_CASE("a llama2.c model goes to Hugging Face's form and back as the same model") {
  const std::string path = file_of_version(0);
  const Folder folder("of-llama2c");
  const Model model = model_in_memory(import_llama2c(path), path);
  CHECK(export_hugging_face(model, folder / "hf", {}).architecture == "llama");
  const Model again = model_from(folder / "hf");
  CHECK(again.transformer->config() == model.transformer->config());
}

TEST_CASE("version 2 is the model that its codes and scales mean") {
  const Folder folder("llama2c-2");
  for (const bool tied : {true, false})
    for (const int32_t group : {1, 16, 64}) {  // the last are longer than rows
      CAPTURE(tied);
      CAPTURE(group);
      const Quantized files(tied, group);
      put_file(folder / "codes.bin", files.codes);
      put_file(folder / "plain.bin", files.plain);
      const Imported codes = import_llama2c(folder / "codes.bin"), plain = import_llama2c(folder / "plain.bin");
      CHECK(codes.file.config == plain.file.config);
      CHECK(codes.file.parameters.size() == plain.file.parameters.size());
      for (const auto& [name, encoded] : plain.file.parameters) {
        CAPTURE(name);
        CHECK(relative_error(values_of(codes, name), values_of(plain, name)) == 0.0);
      }
    }
}

TEST_CASE("files that are no models of llama2.c are one error") {
  const Folder folder("bad-llama2c");
  const std::string path = folder / "model.bin";
  for (const int version : {0, 1, 2}) {
    const std::string whole = version == 2 ? Quantized(false, 16).codes : bytes_of_file(file_of_version(version));
    const auto said = [&](const std::string& bytes) {
      put_file(path, bytes);
      return complaint(path);
    };
    CHECK(said(whole) == "");
    CHECK(said(whole.substr(0, whole.size() - 4)).find("bytes where its header tells of") != std::string::npos);
    CHECK(said(whole + "more").find("bytes where its header tells of") != std::string::npos);
    CHECK(said(whole.substr(0, 20)).find("ends in its header") != std::string::npos);
    std::string changed = whole;
    put_number(changed, version == 0 ? 12 : 20, 3);  // heads
    CHECK(said(changed).find("3 heads") != std::string::npos);
    put_number(changed, version == 0 ? 12 : 20, -1);
    CHECK(said(changed).find("'n_heads' is -1") != std::string::npos);
    if (version == 1) {
      changed = whole;
      put_number(changed, 4, 2);
      CHECK(said(changed).find("'group_size' is 0") != std::string::npos);
      put_number(changed, 4, 7);
      CHECK(said(changed).find("version 7") != std::string::npos);
    }
    if (version == 2) {
      changed = whole;
      put_number(changed, 37, 48);
      CHECK(said(changed).find("the 640 numbers of a matrix are no whole groups of 48") != std::string::npos);
      put_number(changed, 37, 32);
      CHECK(said(changed).find("bytes where its header tells of") != std::string::npos);
      CHECK(said(whole.substr(0, 39)).find("ends in its header") != std::string::npos);
    }
    // Sizes of all kinds: never more memory than the file has, never anything but one error.
    Random random(7, "mutations");
    for (int i = 0; i < 300; ++i) {
      changed = whole.substr(0, 400);
      for (int k = 0; k < 3; ++k)
        put_number(changed, random.below(9) * 4 + (version == 2 ? random.below(2) : 0),
                   static_cast<int32_t>(mix64(random.below(1u << 30)) >> random.below(64)));
      CHECK(said(changed) != "");
    }
  }
  put_file(path, "\x89HDF\r\n\x1a\n");
  CHECK_FALSE(is_llama2c(path));
  CHECK_FALSE(is_llama2c(folder / "model.gguf"));
}
