#include <doctest/doctest.h>

#include "io/checksum.h"
#include "lib/io/example.h"
#include "support/stopping.h"

using namespace hone;
using test::Scratch;
using test::Stopping;

TEST_CASE("a signal ends the writing of a model and leaves nothing, or the old file") {
  const Scratch scratch;
  const ModelFile model = test::example(true);
  {
    const Stopping stopping;
    CHECK_THROWS_AS(write_model_file(scratch / "m.h5", model, false), Stopped);
  }
  CHECK(scratch.files() == 0);
  write_model_file(scratch / "m.h5", model, false);
  const std::string before = test::bytes_of(scratch / "m.h5");
  {
    const Stopping stopping;
    CHECK_THROWS_AS(write_model_file(scratch / "m.h5", test::example(false), true), Stopped);
  }
  CHECK(scratch.files() == 1);
  CHECK(test::bytes_of(scratch / "m.h5") == before);
}

TEST_CASE("a signal does not keep finished work from being saved") {
  const Scratch scratch;
  const Stopping stopping;
  const StopLater saving;
  write_model_file(scratch / "m.h5", test::example(true), false);
  CHECK(test::same(read_model_file(scratch / "m.h5", {.run = true}), test::example(true)));
}

TEST_CASE("a signal ends the reading of a model, and is not taken for damage") {
  const Scratch scratch;
  write_model_file(scratch / "m.h5", test::example(true), false);
  const ModelFile deferred = read_model_file(scratch / "m.h5", {.defer = true});
  const Stopping stopping;
  CHECK_THROWS_AS(read_model_file(scratch / "m.h5"), Stopped);
  CHECK_THROWS_AS(sha256_of_file(scratch / "m.h5"), Stopped);
  for (const auto& [name, encoded] : deferred.parameters)
    if (encoded.verify) CHECK_NOTHROW(encoded.verify());  // short arrays are compared whole
}

TEST_CASE("a finished model whose target is taken is saved beside it") {
  const Scratch scratch;
  const ModelFile model = test::example(false);
  const WrittenFile first = write_model_file(scratch / "m.h5", model, false);
  CHECK(first.path == scratch / "m.h5");
  const WrittenFile second = write_model_file(scratch / "m.h5", model, false, IfTaken::beside);
  CHECK(second.path == scratch / "m.1.h5");
  CHECK(second.sha256 == first.sha256);
  CHECK(test::bytes_of(second.path) == test::bytes_of(first.path));
}

TEST_CASE("a checksum in parts is that of the whole") {
  std::string text(33 << 20, 'x');
  for (size_t i = 0; i < text.size(); i += 4099) text[i] = static_cast<char>(i);
  // As XXH3_64bits() of the library gives for the whole.
  CHECK(checksum_of(text.data(), text.size()) == "970eed32af973bd7");
  const Stopping stopping;
  CHECK(checksum_of(text.data(), text.size()) != "970eed32af973bd7");
}
