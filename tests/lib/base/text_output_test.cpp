#include "base/text_output.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/atomic_file.h"
#include "base/stop.h"
#include "support/failure.h"
#include "support/scratch.h"

using namespace hone;
using test::kind_of_failure;
using test::Scratch;

namespace {

std::string all_of(int fd) {
  std::string text;
  std::array<char, 4096> part;
  for (ssize_t n; (n = read(fd, part.data(), part.size())) > 0;) text.append(part.data(), static_cast<size_t>(n));
  return text;
}

}  // namespace

TEST_CASE("a report in a file is replaced as often as it is written") {
  const Scratch scratch;
  TextOutput output(scratch / "a", false);
  CHECK(scratch.files() == 0);
  CHECK_FALSE(output.stream());
  CHECK(output.write("one") == scratch / "a");
  CHECK(output.write("two") == scratch / "a");
  CHECK(read_text_file(scratch / "a") == "two");
  CHECK(scratch.files() == 1);
  CHECK(kind_of_failure([&] { TextOutput(scratch / "a", false); }) == ErrorKind::usage);
  CHECK(TextOutput(scratch / "a", true).write("three") == scratch / "a");
  CHECK(read_text_file(scratch / "a") == "three");
}

TEST_CASE("a report whose file exists by now goes beside it, and stays there") {
  const Scratch scratch;
  TextOutput output(scratch / "a.csv", false);
  std::ofstream(scratch / "a.csv") << "theirs";
  CHECK(output.write("one") == scratch / "a.1.csv");
  CHECK(output.write("two") == scratch / "a.1.csv");
  CHECK(read_text_file(scratch / "a.csv") == "theirs");
  CHECK(read_text_file(scratch / "a.1.csv") == "two");
  CHECK(scratch.files() == 2);
}

TEST_CASE("a report through a link") {
  const Scratch scratch;
  std::ofstream(scratch / "real") << "old";
  std::filesystem::create_symlink("real", scratch / "link");
  CHECK(TextOutput(scratch / "link", true).write("new") == scratch / "link");
  CHECK(std::filesystem::is_symlink(scratch / "link"));
  CHECK(read_text_file(scratch / "real") == "new");
}

TEST_CASE("a log grows line by line, after what is there") {
  const Scratch scratch;
  TextOutput log(scratch / "log", false);
  log.write("");
  log.append("one\n");
  CHECK(read_text_file(scratch / "log") == "one\n");
  log.append("two\n");
  TextOutput again(scratch / "log", true);
  again.append("three\n");
  CHECK(read_text_file(scratch / "log") == "one\ntwo\nthree\n");
  again.write("one\n");
  again.append("four\n");
  CHECK(read_text_file(scratch / "log") == "one\nfour\n");
}

TEST_CASE("of a line for which there is no room nothing stays") {
  const Scratch scratch;
  TextOutput log(scratch / "log", false);
  log.append("one\n");
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{10, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const ErrorKind kind = kind_of_failure([&] { log.append("a line that is too long\n"); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK(kind == ErrorKind::input);
  CHECK(read_text_file(scratch / "log") == "one\n");
}

TEST_CASE("streams get text as it comes") {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  TextOutput output(fmt::format("/dev/fd/{}", ends[1]), false);
  CHECK(output.stream());
  CHECK(output.write("one ") == output.path());
  output.append("two");
  close(ends[1]);
  CHECK(all_of(ends[0]) == "one two");
  close(ends[0]);
  CHECK(TextOutput("/dev/null", false).write("text") == "/dev/null");
}

TEST_CASE("a descriptor that is a file keeps its place") {
  const Scratch scratch;
  const int fd = open((scratch / "out").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  REQUIRE(::write(fd, "before ", 7) == 7);
  TextOutput(fmt::format("/dev/fd/{}", fd), false).write("after");
  close(fd);
  CHECK(read_text_file(scratch / "out") == "before after");
}

TEST_CASE("a pipe with a name waits for its reader") {
  const Scratch scratch;
  const std::string path = scratch / "pipe";
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  std::string text;
  std::thread reader([&] { text = read_text_file(path); });
  {
    TextOutput output(path, false);
    output.append("a line\n");
    output.append("another\n");
  }
  reader.join();
  CHECK(text == "a line\nanother\n");
  CHECK(std::filesystem::is_fifo(path));
}

TEST_CASE("what cannot be written is an error, not a signal") {
  CHECK(kind_of_failure([] { TextOutput("/dev/full", false).write("text"); }) == ErrorKind::input);
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  TextOutput output(fmt::format("/dev/fd/{}", ends[1]), false);
  close(ends[0]);
  CHECK(kind_of_failure([&] { output.write("text"); }) == ErrorKind::input);
  close(ends[1]);
}

TEST_CASE("no path writes nothing") {
  TextOutput none;
  CHECK_FALSE(none);
  none.write("text");
  none.append("text");
  CHECK_FALSE(TextOutput("", false));
}
