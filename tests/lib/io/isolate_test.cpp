#include "io/isolate.h"

#include <doctest/doctest.h>
#include <sys/mman.h>

#include <csignal>

#include "base/error.h"

using namespace hone;

namespace {

Error failure_of(const std::function<nlohmann::json()>& work) {
  try {
    isolated(work, "the work fails");
  } catch (const Error& error) {
    return error;
  }
  FAIL("nothing was thrown");
  return internal_error("none");
}

}  // namespace

TEST_CASE("work in a child process gives its answer and changes nothing here") {
  int touched = 0;
  const auto answer = isolated(
      [&] {
        touched = 1;
        return nlohmann::json{{"touched", touched}, {"large", std::string(1 << 20, 'x')}};
      },
      "fails");
  CHECK(answer["touched"] == 1);
  CHECK(answer["large"].get<std::string>().size() == 1 << 20);
  CHECK(touched == 0);
}

TEST_CASE("errors come back as they are") {
  const Error error = failure_of([]() -> nlohmann::json { throw usage_error("add --force"); });
  CHECK(error.kind() == ErrorKind::usage);
  CHECK(std::string(error.what()) == "add --force");
}

TEST_CASE("a crash, a hunger for memory and a foreign exception are errors of the input") {
  const Error crash = failure_of([]() -> nlohmann::json {
    std::raise(SIGSEGV);
    return 1;
  });
  CHECK(crash.kind() == ErrorKind::input);
  CHECK(std::string(crash.what()) == "the work fails (signal 11)");
  const Error memory = failure_of([]() -> nlohmann::json {
    char* volatile all = new char[size_t{1} << 40];  // volatile: clang leaves out an allocation that nobody looks at
    delete[] all;
    return 1;
  });
  CHECK(memory.kind() == ErrorKind::input);
  CHECK(std::string(memory.what()) == "the work fails (out of memory)");
  CHECK(failure_of([]() -> nlohmann::json { throw 1; }).kind() == ErrorKind::input);
}

TEST_CASE("work may announce that it needs more memory") {
  const size_t bytes = size_t{1} << 30;  // more than a child may take unannounced; never touched
  const auto take = [&]() -> nlohmann::json {
    return mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
  };
  const auto announce_and_take = [&] {
    expect_bytes(bytes);
    return take();
  };
  CHECK(isolated(take, "fails") == false);
  CHECK(isolated(announce_and_take, "fails") == true);
}
