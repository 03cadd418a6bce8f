// Files of llama2.c against PyTorch's logits, and files that are none.
#include "exchange/llama2c.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstring>

#include "base/error.h"
#include "base/random.h"
#include "lib/exchange/folders.h"

using namespace hone;
using namespace hone::test;

namespace {

Model made_of(Imported imported, const std::string& path) {
  for (auto& [name, encoded] : imported.file.parameters) encoded.arrays["values"] = imported.make(name, "values");
  return model_of(std::move(imported.file), path);
}

std::string file_of_version(int version) {
  return fixture_folder("llama2c-" + std::to_string(version)) + "/model.bin";
}

std::string complaint(const std::string& path) {
  try {
    made_of(import_llama2c(path), path);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.what();
  }
  return "";
}

void put_number(std::string& bytes, size_t at, int32_t number) {
  std::memcpy(bytes.data() + at, &number, sizeof number);
}

}  // namespace

TEST_CASE("logits of both versions are PyTorch's") {
  for (const int version : {0, 1}) {
    CAPTURE(version);
    const std::string path = file_of_version(version);
    CHECK(is_llama2c(path));
    const Model model = made_of(import_llama2c(path), path);
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
  const Model model = made_of(import_llama2c(path), path);
  CHECK(export_hugging_face(model, folder / "hf", {}).architecture == "llama");
  const Model again = model_from(folder / "hf");
  CHECK(again.transformer->config() == model.transformer->config());
}

TEST_CASE("files that are no models of llama2.c are one error") {
  const Folder folder("bad-llama2c");
  const std::string path = folder / "model.bin";
  for (const int version : {0, 1}) {
    const std::string whole = bytes_of_file(file_of_version(version));
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
      CHECK(said(changed).find("quantized") != std::string::npos);
      put_number(changed, 4, 7);
      CHECK(said(changed).find("version 7") != std::string::npos);
    }
    // Sizes of all kinds: never more memory than the file has, never anything but one error.
    Random random(7, "mutations");
    for (int i = 0; i < 300; ++i) {
      changed = whole.substr(0, 400);
      for (int k = 0; k < 3; ++k)
        put_number(changed, random.below(9) * 4,
                   static_cast<int32_t>(mix64(random.below(1u << 30)) >> random.below(64)));
      CHECK(said(changed) != "");
    }
  }
  put_file(path, "\x89HDF\r\n\x1a\n");
  CHECK_FALSE(is_llama2c(path));
  CHECK_FALSE(is_llama2c(folder / "model.gguf"));
}
