#include "base/target.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "support/failure.h"
#include "support/scratch.h"

using namespace hone;
using test::kind_of_failure;
using test::Scratch;

TEST_CASE("names of descriptors are streams, whatever they are open on") {
  const Scratch scratch;
  const std::string path = scratch / "log";
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT, 0600);
  REQUIRE(fd >= 0);
  std::filesystem::create_symlink(fmt::format("/proc/self/fd/{}", fd), scratch / "link");
  for (const std::string& name :
       {fmt::format("/dev/fd/{}", fd), fmt::format("/proc/self/fd/{}", fd), scratch / "link"}) {
    CAPTURE(name);
    const Target target = resolve_target(name);
    CHECK(target.descriptor == fd);
    CHECK(target.stream);
  }
  close(fd);
  CHECK(kind_of_failure([&] { resolve_target(fmt::format("/dev/fd/{}", fd)); }) == ErrorKind::input);
  CHECK(resolve_target("/dev/stderr").descriptor == STDERR_FILENO);
  CHECK(resolve_target("-").descriptor == STDOUT_FILENO);
  const int reading = open(path.c_str(), O_RDONLY);
  CHECK(kind_of_failure([&] { resolve_target(fmt::format("/dev/fd/{}", reading)); }) == ErrorKind::input);
  close(reading);
}

TEST_CASE("files, devices and what is neither") {
  const Scratch scratch;
  CHECK_FALSE(resolve_target(scratch / "none").exists);
  CHECK_FALSE(resolve_target(scratch / "none").stream);
  CHECK(resolve_target("/dev/null").stream);
  REQUIRE(mkfifo((scratch / "pipe").c_str(), 0600) == 0);
  CHECK(resolve_target(scratch / "pipe").stream);
  CHECK(kind_of_failure([&] { resolve_target(scratch / "."); }) == ErrorKind::usage);
  CHECK(kind_of_failure([&] { resolve_target(scratch / std::string(300, 'n')); }) == ErrorKind::input);
  std::ofstream(scratch / "7") << "a file whose name is a number is no descriptor";
  CHECK(resolve_target(scratch / "7").descriptor == -1);
}

TEST_CASE("outputs are different files, and no inputs") {
  const Scratch scratch;
  const std::string a = scratch / "a", text = scratch / "text";
  std::ofstream{text} << "text";
  std::filesystem::create_directory(scratch / "folder");
  std::filesystem::create_symlink("text", scratch / "link");
  std::filesystem::create_hard_link(text, scratch / "hard");
  const auto message = [](const std::vector<NamedPath>& outputs, const std::vector<NamedPath>& inputs) {
    try {
      require_distinct(outputs, inputs);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::usage);
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(message({{"--output", a}, {"--log", scratch / "log"}, {"--plot", ""}, {"--report", ""}}, {{"--data", text}}) ==
        "");
  const std::string same = message({{"--output", a}, {"--log", scratch / "folder/../a"}}, {});
  CHECK(same.find("--output") != std::string::npos);
  CHECK(same.find("--log") != std::string::npos);
  for (const std::string& name : {text, scratch / "link", scratch / "hard", scratch / "./text"}) {
    CAPTURE(name);
    const std::string input =
        message({{"--output", a}, {"--checkpoint", name}}, {{"--valid", a + "2"}, {"--data", text}});
    CHECK(input.find("--checkpoint") != std::string::npos);
    CHECK(input.find("--data") != std::string::npos);
  }
  for (const char* stream : {"-", "/dev/stdout", "/dev/null"})
    CHECK(message({{"--log", stream}, {"--report", stream}}, {{"--data", stream}}) == "");
}
