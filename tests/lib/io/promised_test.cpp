// Arrays that are promised and read piece by piece while a model is written.
#include <doctest/doctest.h>
#include <fcntl.h>

#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/random.h"
#include "base/stop.h"
#include "io/descriptor.h"
#include "kernels/parallel.h"
#include "lib/io/example.h"
#include "support/failure.h"

using namespace hone;
using test::Scratch;

namespace {

constexpr const char* large = "blocks.0.feed_forward.up.weight";

// What is promised, and the numbers behind the promises.
struct Promised {
  ModelFile model;
  std::map<std::string, Tensor> numbers;  // by parameter
  mutable std::atomic<uint64_t> bytes_read{0};

  Promised() {
    model = test::example(false);
    add(large, {701, 1001});                             // pieces, of which the last is short
    add("blocks.1.feed_forward.up.weight", {1, 65536});  // one, and nothing left
    add("blocks.2.feed_forward.up.weight", {2, 65536});  // two
    add("blocks.3.feed_forward.up.weight", {3, 1});      // less than one
    add("blocks.4.feed_forward.up.weight", {0, 5});      // none
  }
  void add(const std::string& name, const Shape& shape) {
    const Tensor values = Tensor::empty(shape);
    Random random(3, name.c_str());
    for (float& x : values.span<float>()) x = static_cast<float>(random.normal());
    numbers[name] = values;
    model.parameters[name] = {"dense", "f32", shape, {}, {{"values", Tensor::promised(shape)}}};
  }
  ModelFile kept() const {
    ModelFile whole = model;
    for (const auto& [name, tensor] : numbers) whole.parameters.at(name).arrays["values"] = tensor;
    return whole;
  }
  ArrayReader reader() const {
    return [this](const std::string& parameter, const std::string&, uint64_t begin, std::span<std::byte> to) {
      std::memcpy(to.data(), numbers.at(parameter).raw() + begin, to.size());
      bytes_read += to.size();
      return 0;
    };
  }
  uint64_t bytes() const {
    uint64_t sum = 0;
    for (const auto& [name, tensor] : numbers) sum += tensor.bytes();
    return sum;
  }
};

struct Threads {
  explicit Threads(int count) : before(kernels::threads()) { kernels::set_threads(count); }
  ~Threads() { kernels::set_threads(before); }
  int before;
};

}  // namespace

TEST_CASE("what is promised becomes the same bytes as what is there, by one thread and by several") {
  const Scratch scratch;
  const Promised promises;
  const std::string sha256 = write_model_file(scratch / "kept.h5", promises.kept(), false).sha256;
  for (const int threads : {1, 2, 5}) {
    CAPTURE(threads);
    const Threads set(threads);
    promises.bytes_read = 0;
    const WrittenFile written =
        write_model_file(scratch / "promised.h5", promises.model, true, IfTaken::refuse, {.read = promises.reader()});
    CHECK(written.sha256 == sha256);
    CHECK(sha256_of_file(scratch / "promised.h5") == sha256);
    CHECK(promises.bytes_read == 2 * promises.bytes());  // for its checksum, and to be written
    CHECK(test::same(read_model_file(scratch / "promised.h5"), promises.kept()));
  }
}

TEST_CASE("what is made whole is made twice, one after the other, and becomes the same bytes") {
  const Scratch scratch;
  const Promised promises;
  const std::string sha256 = write_model_file(scratch / "kept.h5", promises.kept(), false).sha256;
  size_t made = 0, fails_at = SIZE_MAX;
  const ArrayMaker make = [&](const std::string& parameter, const std::string&) {
    if (++made == fails_at) throw input_error("gone");
    return promises.numbers.at(parameter);
  };
  CHECK(write_model_file(scratch / "made.h5", promises.model, false, IfTaken::refuse, {.make = make}).sha256 == sha256);
  CHECK(made == 2 * promises.numbers.size());
  for (const size_t at : {size_t{2}, promises.numbers.size() + 2}) {
    made = 0, fails_at = at;
    CHECK(test::failure([&] {
            write_model_file(scratch / "no.h5", promises.model, false, IfTaken::refuse, {.make = make});
          }) == "3 gone");
    CHECK(scratch.files() == 2);
  }
}

TEST_CASE("no promised array is whole in memory") {
  const Scratch scratch;
  const Promised promises;
  const Threads one(1);
  const size_t before = pool_used_bytes();
  reset_pool_peak();
  write_model_file(scratch / "m.h5", promises.model, false, IfTaken::refuse, {.read = promises.reader()});
  CHECK(pool_peak_bytes() - before < size_t{1} << 20);
  CHECK(promises.numbers.at(large).bytes() > size_t{2} << 20);
}

TEST_CASE("a piece that cannot be read is one error, and leaves nothing") {
  const Scratch scratch;
  const Promised promises;
  const ArrayReader good = promises.reader();
  for (const int threads : {1, 3})
    for (const int fails_in_round : {1, 2}) {  // while checksums are taken, and while bytes are written
      CAPTURE(threads);
      CAPTURE(fails_in_round);
      const Threads set(threads);
      constexpr uint64_t middle = uint64_t{1} << 20;  // a byte of the array
      std::atomic<int> asked{0};
      const ArrayReader bad = [&](const std::string& parameter, const std::string& array, uint64_t begin,
                                  std::span<std::byte> to) {
        const bool here = begin <= middle && middle < begin + to.size();
        if (parameter == large && here && ++asked == fails_in_round) return EIO;
        return good(parameter, array, begin, to);
      };
      const std::string said = test::failure(
          [&] { write_model_file(scratch / "m.h5", promises.model, false, IfTaken::refuse, {.read = bad}); });
      CHECK(said.starts_with("3 parameter 'blocks.0.feed_forward.up.weight' dataset 'values' cannot be read: "));
      CHECK(said.find(std::strerror(EIO)) == said.rfind(std::strerror(EIO)));
      CHECK(asked == fails_in_round);
      CHECK(scratch.files() == 0);
    }
}

TEST_CASE("a number that is not finite is one error that names its array, and leaves nothing") {
  const Scratch scratch;
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()})
    for (const int64_t at : {0, 65535, 65536, 701 * 1001 - 1}) {  // of pieces the first, a last, and those of the array
      CAPTURE(at);
      Promised promises;
      promises.numbers.at(large).data<float>()[at] = bad;
      const std::string said = test::failure([&] {
        write_model_file(scratch / "m.h5", promises.model, false, IfTaken::refuse, {.read = promises.reader()});
      });
      CHECK(said.starts_with(
          "3 parameter 'blocks.0.feed_forward.up.weight' dataset 'values' has numbers that are NaN or infinite"));
      CHECK(scratch.files() == 0);
    }
}

TEST_CASE("a signal ends the reading of what is promised, whenever it comes, and leaves nothing") {
  const Scratch scratch;
  const Promised promises;
  const ArrayReader good = promises.reader();
  for (const int round : {1, 2}) {  // while checksums are taken, and while bytes are written
    CAPTURE(round);
    std::atomic<int> asked{0};
    const ArrayReader stops = [&](const std::string& parameter, const std::string& array, uint64_t begin,
                                  std::span<std::byte> to) {
      if (parameter == large && begin == 0 && ++asked == round) raise_stop(15);
      return good(parameter, array, begin, to);
    };
    CHECK_THROWS_AS(write_model_file(scratch / "m.h5", promises.model, false, IfTaken::refuse, {.read = stops}),
                    Stopped);
    raise_stop(0);
    CHECK(asked == round);
    CHECK(scratch.files() == 0);
  }
}

TEST_CASE("a promise that nobody keeps is our own mistake") {
  const Scratch scratch;
  CHECK(test::kind_of_failure([&] { write_model_file(scratch / "m.h5", Promised().model, false); }) ==
        ErrorKind::internal);
  CHECK(scratch.files() == 0);
}

TEST_CASE("bytes of a file by one thread: any range in it, and an error beyond its end") {
  const Scratch scratch;
  test::put_bytes(scratch / "x", "0123456789");
  const Descriptor file(open((scratch / "x").c_str(), O_RDWR | O_CLOEXEC));
  char found[10] = {};
  auto* const to = reinterpret_cast<std::byte*>(found);
  CHECK(read_at(file.fd(), {to, 3, 6}) == 0);
  CHECK(std::string(found, 3) == "678");
  CHECK(read_at(file.fd(), {to, 0, 20}) == 0);
  CHECK(read_at(file.fd(), {to, 3, 8}) == EIO);
  CHECK(read_at(-1, {to, 3, 0}) == EBADF);
  found[0] = 'x';
  CHECK(write_at(file.fd(), {to, 1, 10}) == 0);
  CHECK(test::bytes_of(scratch / "x") == "0123456789x");
}
