#include "lib/io/example.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/error.h"
#include "base/random.h"

namespace hone::test {
namespace {

Tensor noise(Shape shape, DType dtype, const char* name) {
  Tensor t = Tensor::empty(std::move(shape), dtype);
  Random random(5, name);
  for (size_t i = 0; i < t.bytes(); ++i) t.raw()[i] = static_cast<std::byte>(random.below(256));
  return t;
}

}  // namespace

ModelFile example(bool with_run) {
  ModelFile m;
  m.config = {{"dim", 10}, {"layers", {{{"heads", 2}}, {{"heads", 1}}}}, {"name", "Größe"}};
  m.tokenizer = {{"kind", "bpe"}, {"merges", {{104, 101}, {108, 108}}}};
  m.lineage = {{{"tool", "train"}, {"seed", 7}}};
  m.parameters["embedding.weight"] = {"dense", "f32", {5, 3}, {}, {{"values", noise({5, 3}, DType::f32, "a")}}};
  m.parameters["blocks.0.norm.weight"] = {"dense", "f32", {7}, {}, {{"values", noise({7}, DType::f32, "b")}}};
  m.parameters["blocks.0.attention.qkv.weight"] = {
      "masked",
      "f32",
      {4, 10},
      {},
      {{"mask", noise({4, 2}, DType::u8, "c")}, {"values", noise({4, 10}, DType::f32, "d")}}};
  m.parameters["blocks.10.feed_forward.up.weight"] = {"bitmask",
                                                      "int4",
                                                      {64, 32},
                                                      {{"group", 32}, {"nonzeros", 5}},
                                                      {{"mask", noise({1, 8, 4, 8}, DType::u8, "e")},
                                                       {"offsets", noise({2}, DType::i64, "f")},
                                                       {"scales", noise({64, 1}, DType::bf16, "g")},
                                                       {"values", noise({777}, DType::i8, "h")},
                                                       {"empty", Tensor::empty({0, 4}, DType::u32)}}};
  if (with_run) {
    m.run = {{"step", 12}, {"random", {1, 2, 3, 18446744073709551615u}}};
    m.run_arrays["first.blocks.0.norm.weight"] = noise({7}, DType::f32, "i");
    m.run_arrays["order"] = noise({3}, DType::i32, "j");
    m.run_arrays["scalar"] = noise({}, DType::u32, "k");
  }
  return m;
}

bool same(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

bool same(const ModelFile& a, const ModelFile& b) {
  const auto same_arrays = [](const auto& x, const auto& y) {
    return std::equal(x.begin(), x.end(), y.begin(), y.end(),
                      [](const auto& p, const auto& q) { return p.first == q.first && same(p.second, q.second); });
  };
  return a.config == b.config && a.tokenizer == b.tokenizer && a.lineage == b.lineage && a.run == b.run &&
         same_arrays(a.run_arrays, b.run_arrays) &&
         std::equal(a.parameters.begin(), a.parameters.end(), b.parameters.begin(), b.parameters.end(),
                    [&](const auto& p, const auto& q) {
                      const Encoded &x = p.second, &y = q.second;
                      return p.first == q.first && x.form == y.form && x.element == y.element && x.shape == y.shape &&
                             x.attributes == y.attributes && same_arrays(x.arrays, y.arrays);
                    });
}

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void put_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

std::string complaint(const std::string& path, ReadOptions options) {
  try {
    read_model_file(path, options);
    return "";
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) throw;
    return error.what();
  }
}

}  // namespace hone::test
