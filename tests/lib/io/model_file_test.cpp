#include "io/model_file.h"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <limits>
#include <thread>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "lib/io/example.h"

using namespace hone;
using test::Scratch;

namespace {

size_t open_descriptors() {
  size_t n = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++n;
  return n;
}

// Writes beyond `bytes` of a file fail, as they do on a full disk.
class SmallDisk {
 public:
  explicit SmallDisk(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit now{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &now);
  }
  ~SmallDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_;
  void (*handler_)(int);
};

Error failure(const std::string& path, const ModelFile& model, bool force) {
  try {
    write_model_file(path, model, force);
  } catch (const Error& error) {
    return error;
  }
  FAIL("nothing was thrown");
  return internal_error("none");
}

ErrorKind kind_of_failure(const std::string& path, const ModelFile& model, bool force) {
  return failure(path, model, force).kind();
}

}  // namespace

TEST_CASE("a model reads back as it was written, mapped or copied, verified or not") {
  const Scratch scratch;
  const ModelFile model = test::example(false);
  const WrittenFile written = write_model_file(scratch / "m.h5", model, false);
  CHECK(written.path == scratch / "m.h5");
  CHECK(written.bytes == static_cast<int64_t>(std::filesystem::file_size(scratch / "m.h5")));
  CHECK(written.sha256 == sha256_of_file(scratch / "m.h5"));
  CHECK(scratch.files() == 1);
  for (const bool map : {false, true})
    for (const bool verify : {false, true}) {
      const ModelFile read = read_model_file(scratch / "m.h5", {.verify = verify, .map = map});
      CHECK(test::same(model, read));
      for (const auto& [name, encoded] : read.parameters)
        for (const auto& [array, tensor] : encoded.arrays) {
          if (tensor.bytes() == 0) continue;
          CHECK(tensor.writable() == !map);
          CHECK(reinterpret_cast<uintptr_t>(tensor.raw()) % 64 == 0);
        }
    }
}

TEST_CASE("deferred, arrays are compared when that is asked for, one parameter at a time") {
  const Scratch scratch;
  const ModelFile model = test::example(true);
  write_model_file(scratch / "m.h5", model, false);
  const ModelFile good = read_model_file(scratch / "m.h5", {.defer = true, .run = true});
  CHECK(test::same(model, good));
  for (const auto& [name, encoded] : good.parameters) {
    REQUIRE(encoded.verify);
    CHECK_NOTHROW(encoded.verify());
  }
  const Tensor& values = model.parameters.at("embedding.weight").arrays.at("values");
  std::string bytes = test::bytes_of(scratch / "m.h5");
  const size_t at = bytes.find(std::string(reinterpret_cast<const char*>(values.raw()), values.bytes()));
  REQUIRE(at != std::string::npos);
  bytes[at + values.bytes() - 1] ^= 64;
  test::put_bytes(scratch / "m.h5", bytes);
  const std::string complaint = test::complaint(scratch / "m.h5");
  CHECK(complaint.find("'embedding.weight' dataset 'values' does not match") != std::string::npos);
  CHECK(test::complaint(scratch / "m.h5", {.defer = true, .map = false}) == complaint);  // read already, so compared
  const ModelFile damaged = read_model_file(scratch / "m.h5", {.defer = true});
  for (const auto& [name, encoded] : damaged.parameters) {
    CAPTURE(name);
    if (name == "embedding.weight")
      CHECK_THROWS_WITH_AS(encoded.verify(), complaint.c_str(), Error);
    else
      CHECK_NOTHROW(encoded.verify());
  }
  CHECK(kind_of_failure(scratch / "n.h5", damaged, false) == ErrorKind::input);
  CHECK(scratch.files() == 1);
}

TEST_CASE("mapped arrays outlive the model and the file's name") {
  const Scratch scratch;
  const ModelFile model = test::example(false);
  write_model_file(scratch / "m.h5", model, false);
  const Tensor kept = read_model_file(scratch / "m.h5").parameters.at("embedding.weight").arrays.at("values");
  std::filesystem::remove(scratch / "m.h5");
  CHECK(test::same(kept, model.parameters.at("embedding.weight").arrays.at("values")));
}

TEST_CASE("the run section is read only on request, and a checkpoint is a model too") {
  const Scratch scratch;
  const ModelFile run = test::example(true), model = test::example(false);
  write_model_file(scratch / "run.h5", run, false);
  CHECK(test::same(read_model_file(scratch / "run.h5", {.run = true}), run));
  CHECK(test::same(read_model_file(scratch / "run.h5", {.map = false, .run = true}), run));
  CHECK(test::same(read_model_file(scratch / "run.h5"), model));
  write_model_file(scratch / "m.h5", model, false);
  CHECK_FALSE(read_model_file(scratch / "m.h5", {.run = true}).run.has_value());
  const ModelFile texts = read_model_file(scratch / "run.h5", {.parameters = false});
  CHECK(texts.config == run.config);
  CHECK(texts.parameters.empty());
}

TEST_CASE("equal content gives equal bytes") {
  const Scratch scratch;
  const WrittenFile a = write_model_file(scratch / "a.h5", test::example(true), false);
  const WrittenFile b = write_model_file(scratch / "b.h5", test::example(true), false);
  CHECK(a.sha256 == b.sha256);
  const ModelFile again = read_model_file(scratch / "a.h5", {.run = true});
  CHECK(write_model_file(scratch / "c.h5", again, false).sha256 == a.sha256);
  ModelFile other = test::example(true);
  other.parameters["embedding.weight"].arrays["values"].data<float>()[0] = 2;
  CHECK(write_model_file(scratch / "d.h5", other, false).sha256 != a.sha256);
}

TEST_CASE("a model may replace the file that it is mapped from") {
  const Scratch scratch;
  write_model_file(scratch / "m.h5", test::example(false), false);
  ModelFile model = read_model_file(scratch / "m.h5");
  model.config["stage"] = 2;
  write_model_file(scratch / "m.h5", model, true);
  CHECK(test::same(read_model_file(scratch / "m.h5"), model));
}

TEST_CASE("an existing file is kept unless force is given") {
  const Scratch scratch;
  test::put_bytes(scratch / "m.h5", "precious");
  CHECK(kind_of_failure(scratch / "m.h5", test::example(false), false) == ErrorKind::usage);
  CHECK(test::bytes_of(scratch / "m.h5") == "precious");
  write_model_file(scratch / "m.h5", test::example(false), true);
  CHECK(test::complaint(scratch / "m.h5") == "");
  CHECK(kind_of_failure(scratch / "no/m.h5", test::example(false), false) == ErrorKind::input);
}

TEST_CASE("a disk that fills up at any point leaves the old file and nothing else") {
  const Scratch scratch;
  const ModelFile model = test::example(true);
  const auto bytes = static_cast<rlim_t>(write_model_file(scratch / "m.h5", model, false).bytes);
  const std::string before = test::bytes_of(scratch / "m.h5");
  const size_t descriptors = open_descriptors();
  for (const rlim_t room : {rlim_t{0}, rlim_t{100}, rlim_t{5000}, bytes / 2, bytes - 1}) {
    const SmallDisk disk(room);
    const Error error = failure(scratch / "m.h5", model, true);
    CHECK(error.kind() == ErrorKind::input);
    CHECK(std::string(error.what()) == fmt::format("cannot write '{}': {}", scratch / "m.h5", std::strerror(EFBIG)));
    CHECK(scratch.files() == 1);
    CHECK(open_descriptors() == descriptors);
  }
  CHECK(test::bytes_of(scratch / "m.h5") == before);
  CHECK(write_model_file(scratch / "n.h5", model, false).bytes == static_cast<int64_t>(bytes));
}

TEST_CASE("what cannot be written is an internal error and leaves nothing") {
  const Scratch scratch;
  const auto kind_with = [&](auto change) {
    ModelFile model = test::example(false);
    change(model);
    return kind_of_failure(scratch / "m.h5", model, false);
  };
  CHECK(kind_with([](ModelFile& m) { m.parameters["a/b"] = m.parameters["embedding.weight"]; }) == ErrorKind::internal);
  CHECK(kind_with([](ModelFile& m) { m.parameters["a..b"] = m.parameters["embedding.weight"]; }) ==
        ErrorKind::internal);
  CHECK(kind_with([](ModelFile& m) {
          m.parameters["x"] = {"dense", "f32", {2}, {}, {{"values", Tensor()}}};
        }) == ErrorKind::internal);
  CHECK(kind_with([](ModelFile& m) { m.parameters["embedding.weight"].attributes["shape"] = 1; }) ==
        ErrorKind::internal);
  CHECK(kind_with([](ModelFile& m) { m.run_arrays["x"] = Tensor::zeros({1}); }) == ErrorKind::internal);
  CHECK(kind_with([](ModelFile& m) { m.tokenizer = "\xff\xfe"; }) == ErrorKind::internal);
  CHECK(scratch.files() == 0);
}

TEST_CASE("a number that is not finite becomes null in JSON") {
  const Scratch scratch;
  ModelFile model = test::example(false);
  model.lineage[0]["results"] = {{"loss", std::numeric_limits<double>::quiet_NaN()}};
  write_model_file(scratch / "m.h5", model, false);
  CHECK(read_model_file(scratch / "m.h5").lineage[0]["results"]["loss"].is_null());
}

// Each reads by a child that HDF5 runs in, and a child that is made while another thread is within HDF5 would wait for
// that one's lock for ever.
TEST_CASE("threads write and read files side by side") {
  constexpr int threads = 4, files = 6;
  const ModelFile model = test::example(false);
  std::vector<int> same(threads);
  std::vector<std::thread> team;
  for (int t = 0; t < threads; ++t)
    team.emplace_back([&, t] {
      const Scratch scratch;
      const std::string path = scratch / "model.h5";
      for (int i = 0; i < files; ++i) {
        write_model_file(path, model, true);
        same[static_cast<size_t>(t)] += test::same(read_model_file(path), model);
      }
    });
  for (std::thread& thread : team) thread.join();
  CHECK(same == std::vector<int>(threads, files));
}
