#include "base/atomic_file.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/error.h"

using namespace hone;

namespace {

class Scratch {
 public:
  Scratch() {
    std::string pattern = (std::filesystem::temp_directory_path() / "hone-base-XXXXXX").string();
    if (!mkdtemp(pattern.data())) throw internal_error("no temporary folder");
    directory_ = pattern;
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::string operator/(const std::string& name) const { return directory_ + "/" + name; }
  size_t files() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(directory_), {}));
  }

 private:
  std::string directory_;
};

template <class F>
ErrorKind kind_of_failure(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.kind();
  }
  FAIL("nothing was thrown");
  return ErrorKind::internal;
}

}  // namespace

TEST_CASE("a file appears when it is committed, and not before") {
  const Scratch scratch;
  AtomicFile file(scratch / "a", false);
  CHECK(file.target() == scratch / "a");
  std::ofstream(file.temporary()) << "text";
  CHECK_FALSE(std::filesystem::exists(scratch / "a"));
  file.commit();
  CHECK(read_text_file(scratch / "a") == "text");
  CHECK(scratch.files() == 1);
}

TEST_CASE("without a commit nothing is left") {
  const Scratch scratch;
  {
    AtomicFile file(scratch / "a", false);
    std::ofstream(file.temporary()) << "text";
    CHECK(scratch.files() == 1);
  }
  CHECK(scratch.files() == 0);
}

TEST_CASE("an existing file needs force") {
  const Scratch scratch;
  write_text_file(scratch / "a", "old");
  CHECK(kind_of_failure([&] { AtomicFile(scratch / "a", false); }) == ErrorKind::usage);
  CHECK(kind_of_failure([&] { require_writable(scratch / "a", false); }) == ErrorKind::usage);
  CHECK(kind_of_failure([&] { write_text_file(scratch / "a", "new", false); }) == ErrorKind::usage);
  CHECK(read_text_file(scratch / "a") == "old");
  write_text_file(scratch / "a", "new", true);
  CHECK(read_text_file(scratch / "a") == "new");
  CHECK(scratch.files() == 1);
}

TEST_CASE("a file that appears during the work is not replaced without force") {
  const Scratch scratch;
  {
    AtomicFile file(scratch / "a", false);
    std::ofstream(file.temporary()) << "ours";
    std::ofstream(scratch / "a") << "theirs";
    CHECK(kind_of_failure([&] { file.commit(); }) == ErrorKind::usage);
  }
  CHECK(read_text_file(scratch / "a") == "theirs");
  CHECK(scratch.files() == 1);
}

TEST_CASE("targets that cannot be files") {
  const Scratch scratch;
  CHECK(kind_of_failure([&] { require_writable(scratch / "none/a", false); }) == ErrorKind::input);
  CHECK(kind_of_failure([&] { require_writable(scratch / ".", true); }) == ErrorKind::usage);
  CHECK(kind_of_failure([&] { require_writable("/dev/null", true); }) == ErrorKind::usage);
  REQUIRE(mkfifo((scratch / "pipe").c_str(), 0600) == 0);
  CHECK(kind_of_failure([&] { write_text_file(scratch / "pipe", "text", true); }) == ErrorKind::usage);
  CHECK(std::filesystem::is_fifo(scratch / "pipe"));
  if (geteuid() != 0) {  // root may write anywhere
    std::filesystem::create_directory(scratch / "closed");
    chmod((scratch / "closed").c_str(), 0500);
    CHECK(kind_of_failure([&] { require_writable(scratch / "closed/a", false); }) == ErrorKind::input);
  }
}

TEST_CASE("a target without a folder lies in the working directory") {
  const Scratch scratch;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(scratch / ".");
  write_text_file("a", "text", false);
  std::filesystem::current_path(before);
  CHECK(read_text_file(scratch / "a") == "text");
}

TEST_CASE("on a full disk the old file stays and nothing else does") {
  const Scratch scratch;
  write_text_file(scratch / "a", "old");
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);  // so that writing fails instead of ending the process
  const rlimit small{1000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const ErrorKind kind = kind_of_failure([&] { write_text_file(scratch / "a", std::string(100000, 'x'), true); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK(kind == ErrorKind::input);
  CHECK(read_text_file(scratch / "a") == "old");
  CHECK(scratch.files() == 1);
}

TEST_CASE("reading gives the bytes, or says why not") {
  const Scratch scratch;
  const std::string bytes("a\0b\r\n\xff", 6);
  write_text_file(scratch / "a", bytes);
  CHECK(read_text_file(scratch / "a") == bytes);
  write_text_file(scratch / "empty", "");
  CHECK(read_text_file(scratch / "empty").empty());
  CHECK(kind_of_failure([&] { read_text_file(scratch / "none"); }) == ErrorKind::input);
  CHECK(kind_of_failure([&] { read_text_file(scratch / "."); }) == ErrorKind::input);
}

TEST_CASE("SHA-256 of a file, against the examples of FIPS 180-2") {
  const Scratch scratch;
  write_text_file(scratch / "abc", "abc");
  CHECK(sha256_of_file(scratch / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  write_text_file(scratch / "empty", "");
  CHECK(sha256_of_file(scratch / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  write_text_file(scratch / "million", std::string(1000000, 'a'));
  CHECK(sha256_of_file(scratch / "million") == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  CHECK(kind_of_failure([&] { sha256_of_file(scratch / "none"); }) == ErrorKind::input);
}
