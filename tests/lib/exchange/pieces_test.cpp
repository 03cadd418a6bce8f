// Numbers of any range of a parameter, out of tensors of any order and type.
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <thread>

#include "exchange/assemble.h"
#include "exchange/block_types.h"
#include "exchange/numbers.h"
#include "exchange/safetensors.h"
#include "kernels/parallel.h"
#include "lib/exchange/folders.h"

using namespace hone;
using namespace hone::test;

namespace {

std::vector<float> from_one(int64_t count) {
  std::vector<float> numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 1.0f);
  return numbers;
}

// Every range of the whole, or those that begin and end around places of a step.
template <class F>
void each_range(int64_t count, int64_t step, F&& f) {
  for (int64_t begin = 0; begin <= count; begin += step)
    for (int64_t end = begin; end <= count; end += step) f(begin, end);
}

}  // namespace

TEST_CASE("a tensor is handed on in pieces, all of it and in order") {
  for (const int64_t count : {int64_t{1}, piece_numbers, 2 * piece_numbers + 96}) {
    const Tensor tensor = Tensor::empty({count, 1});
    std::iota(tensor.data<float>(), tensor.data<float>() + count, 0.0f);
    int64_t taken = 0;
    in_pieces(tensor, [&](std::span<const float> piece) {
      CHECK(static_cast<int64_t>(piece.size()) == std::min(piece_numbers, count - taken));
      CHECK(piece.front() == static_cast<float>(taken));
      taken += static_cast<int64_t>(piece.size());
    });
    CHECK(taken == count);
  }
}

TEST_CASE("a range of a parameter is that part of the whole") {
  Part plain{"a", {4, 3}};
  Part rows{"b", {5, 3}};
  rows.rows = {1, 2, 4, 0, 3};  // neighbours, and others
  Part turned{"c", {3, 2}};
  turned.transposed = true;
  const std::map<std::string, std::vector<float>> tensors = {
      {"a", from_one(12)}, {"b", from_one(15)}, {"c", {101, 102, 103, 104, 105, 106}}};
  const TensorReader read = [&](const Part& part, int64_t first, std::span<float> to) {
    const std::vector<float>& tensor = tensors.at(part.tensor);
    REQUIRE(first >= 0);
    REQUIRE(first + static_cast<int64_t>(to.size()) <= static_cast<int64_t>(tensor.size()));
    std::copy_n(tensor.begin() + first, to.size(), to.begin());
    return 0;
  };
  std::vector<float> whole = tensors.at("a");
  for (const int64_t r : rows.rows)
    for (int64_t c = 0; c < 3; ++c) whole.push_back(tensors.at("b")[static_cast<size_t>(r * 3 + c)]);
  for (const float x : {101, 103, 105, 102, 104, 106}) whole.push_back(x);
  const Parts parts = {{plain, rows, turned}};
  each_range(static_cast<int64_t>(whole.size()), 1, [&](int64_t begin, int64_t end) {
    std::vector<float> found(static_cast<size_t>(end - begin), -1);
    CHECK(read_numbers(parts, begin, found, read) == 0);
    CHECK(std::equal(found.begin(), found.end(), whole.begin() + begin));
  });
  std::vector<float> zeros(7, 1);
  CHECK(read_numbers({{}, true}, 5, zeros, read) == 0);
  CHECK(zeros == std::vector<float>(7, 0));
  int asked = 0;
  const TensorReader fails = [&](const Part& part, int64_t first, std::span<float> to) {
    return ++asked == 2 ? ENOMEM : read(part, first, to);
  };
  std::vector<float> all(whole.size());
  CHECK(read_numbers(parts, 0, all, fails) == ENOMEM);
  CHECK(asked == 2);
}

TEST_CASE("transposed matrices of more rows than are read at once") {
  const int64_t rows = 2500, cols = 3;
  Part turned{"a", {cols, rows}};
  turned.transposed = true;
  std::vector<float> found(static_cast<size_t>(rows * cols) - 2);
  const TensorReader read = [&](const Part&, int64_t first, std::span<float> to) {
    std::iota(to.begin(), to.end(), static_cast<float>(first));
    return 0;
  };
  CHECK(read_numbers({{turned}}, 1, found, read) == 0);
  for (int64_t i = 1; i < rows * cols - 1; ++i)
    REQUIRE(found[static_cast<size_t>(i - 1)] == static_cast<float>(i % cols * rows + i / cols));
}

TEST_CASE("a range of blocks in a file is that part of all of them") {
  const Folder folder("ranges");
  constexpr uint64_t at = 13;  // at no alignment
  constexpr int64_t count = 33 * 256;
  for (const BlockType& type : block_types()) {
    CAPTURE(type.name);
    std::string bytes(type.bytes_of(count), '\0');
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7 % 59);  // no NaN of any type
    put_file(folder / "x", std::string(at, 'x') + bytes);
    const MappedFile file(folder / "x");
    std::vector<float> whole(count);
    decode_blocks(type, reinterpret_cast<const std::byte*>(bytes.data()), whole);
    each_range(count, 32 * 31 - 1, [&](int64_t begin, int64_t end) {
      std::vector<float> found(static_cast<size_t>(end - begin), -1);
      CHECK(read_blocks(file, at, type, begin, found) == 0);
      CHECK(std::equal(found.begin(), found.end(), whole.begin() + begin));
    });
    std::vector<float> beyond(static_cast<size_t>(type.block) + 1);
    CHECK(read_blocks(file, at, type, count - type.block, beyond) == EIO);
  }
}

TEST_CASE("blocks are read by the calling thread alone, however many numbers a byte has") {
  struct Threads {
    Threads() : before(kernels::threads()) { kernels::set_threads(4); }
    ~Threads() { kernels::set_threads(before); }
    int before;
  } const four;
  static std::thread::id reader;
  static std::atomic<int> decoded, elsewhere;
  reader = std::this_thread::get_id();
  decoded = elsewhere = 0;
  const auto decode = [](const std::byte* block, float* to) {
    std::fill_n(to, 256, static_cast<float>(*block));
    ++decoded;
    elsewhere += std::this_thread::get_id() != reader || kernels::in_parallel();
  };
  const BlockType small = {"small", 999, 256, 4, 0, decode, nullptr};
  const Folder folder("alone");
  constexpr int64_t blocks = 20000;
  put_file(folder / "x", std::string(small.bytes_of(blocks * 256), '\3'));
  std::vector<float> found(static_cast<size_t>(blocks * 256 - 2));
  CHECK(read_blocks(MappedFile(folder / "x"), 0, small, 1, found) == 0);
  CHECK(found == std::vector<float>(found.size(), 3));
  CHECK(decoded == blocks);
  CHECK(elsewhere == 0);
}

TEST_CASE("many numbers of 16 bits") {
  const Folder folder("many");
  const int64_t count = 100001;  // some buffers
  for (const char* name : {"f16", "bf16"}) {
    const BlockType& type = block_type_named(name);
    const std::vector<float> numbers = [&] {
      std::vector<float> all(static_cast<size_t>(count));
      for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<float>(static_cast<int>(i % 255) - 127);
      return all;
    }();
    std::string bytes(type.bytes_of(count), '\0');
    encode_blocks(type, numbers, reinterpret_cast<std::byte*>(bytes.data()));
    put_file(folder / "x", bytes);
    std::vector<float> found(numbers.size());
    CHECK(read_blocks(MappedFile(folder / "x"), 0, type, 0, found) == 0);
    CHECK(found == numbers);
  }
}

TEST_CASE("a model of more files than a process may open is read, and one that was replaced is an error") {
  const Folder folder("shards");
  nlohmann::json places = nlohmann::json::object();
  for (const auto& [name, bytes] : files_of(fixture_folder("llama"))) {
    if (!name.ends_with(".safetensors")) {
      put_file(folder / name, bytes);
      continue;
    }
    const SafetensorsFile file(fixture_folder("llama") + "/" + name);
    for (const StoredTensor& tensor : file.tensors()) {
      const std::string shard = "shard-" + std::to_string(places.size()) + ".safetensors";
      places[tensor.name] = shard;
      std::vector<StoredTensor> alone = {tensor};
      const std::string header = make_safetensors_header(alone);
      write_safetensors(folder / shard, true, header, alone, [&](const StoredTensor&, OutputFile& out) {
        std::vector<std::byte> numbers(tensor.end - tensor.begin);
        REQUIRE(file.read_bytes(tensor, 0, numbers) == 0);
        out.write(numbers.data(), numbers.size());
      });
    }
  }
  put_file(folder / "model.safetensors.index.json", nlohmann::json{{"weight_map", places}}.dump());
  REQUIRE(places.size() > 20);
  rlimit before;
  getrlimit(RLIMIT_NOFILE, &before);
  const auto open_now = std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  const rlimit few = {static_cast<rlim_t>(open_now) + 10, before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &few);
  std::string said;
  std::optional<Imported> shards;
  try {
    shards = import_hugging_face(folder.path.string());
    const Imported whole = import_hugging_face(fixture_folder("llama"));
    for (const auto& [name, encoded] : whole.file.parameters) {
      const Tensor a = values_of(*shards, name), b = values_of(whole, name);
      CHECK(std::equal(a.span<float>().begin(), a.span<float>().end(), b.span<float>().begin()));
    }
  } catch (const Error& error) {
    said = error.what();
  }
  setrlimit(RLIMIT_NOFILE, &before);
  CHECK(said.empty());
  REQUIRE(shards);
  const std::string shard = folder / places["model.embed_tokens.weight"].get<std::string>();
  std::filesystem::copy_file(shard, folder / "copy");
  std::filesystem::rename(folder / "copy", shard);
  std::vector<std::byte> some(4);
  CHECK(shards->read("embedding.weight", "values", 0, some) == ESTALE);
}

TEST_CASE("a file that has become shorter is an error, not the end of the process") {
  const Folder folder("shorter");
  for (const auto& [file, bytes] : files_of(fixture_folder("llama"))) put_file(folder / file, bytes);
  const Imported imported = import_hugging_face(folder.path.string());
  REQUIRE(truncate((folder / "model-00001-of-00002.safetensors").c_str(), 5000) == 0);
  std::string said;
  try {
    write_model_file(folder / "m.h5", imported.file, false, IfTaken::refuse, {.read = imported.read});
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    said = error.what();
  }
  CHECK(said.find("cannot be read") != std::string::npos);
  CHECK(!std::filesystem::exists(folder / "m.h5"));
}
