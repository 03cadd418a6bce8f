#include "base/atomic_file.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/temporary.h"
#include "support/failure.h"
#include "support/scratch.h"

using namespace hone;
using test::kind_of_failure;
using test::Scratch;

namespace {

unsigned mode_of(const std::string& path) {
  struct stat status;
  REQUIRE(stat(path.c_str(), &status) == 0);
  return status.st_mode & 07777;
}

void write(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

// The number of a process that is gone.
int finished_process() {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  REQUIRE(waitpid(child, nullptr, 0) == child);
  return child;
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

TEST_CASE("finished work whose target is taken is saved beside it") {
  const Scratch scratch;
  write(scratch / "a.h5", "theirs");
  write(scratch / "a.1.h5", "theirs, too");
  AtomicFile file(scratch / "a.h5", false, IfTaken::beside);
  write(file.temporary(), "ours");
  CHECK(file.commit() == scratch / "a.2.h5");
  CHECK(read_text_file(scratch / "a.2.h5") == "ours");
  CHECK(read_text_file(scratch / "a.h5") == "theirs");
  CHECK(read_text_file(scratch / "a.1.h5") == "theirs, too");
  CHECK(scratch.files() == 3);
}

TEST_CASE("finished work whose target became a folder or read-only is saved beside it, with --force, too") {
  const Scratch scratch;
  AtomicFile folder(scratch / "a.h5", true, IfTaken::beside);
  write(folder.temporary(), "ours");
  std::filesystem::create_directory(scratch / "a.h5");
  CHECK(folder.commit() == scratch / "a.1.h5");
  AtomicFile closed(scratch / "b", true, IfTaken::beside);
  write(closed.temporary(), "ours");
  write(scratch / "b", "theirs");
  chmod((scratch / "b").c_str(), 0444);
  CHECK(closed.commit() == scratch / "b.1");
  CHECK(read_text_file(scratch / "b") == "theirs");
}

TEST_CASE("a free target gets finished work under its own name") {
  const Scratch scratch;
  AtomicFile file(scratch / "a.h5", false, IfTaken::beside);
  write(file.temporary(), "ours");
  CHECK(file.commit() == scratch / "a.h5");
  CHECK(scratch.files() == 1);
}

TEST_CASE("a symbolic link stays, and its target is replaced in its own folder") {
  const Scratch scratch;
  std::filesystem::create_directory(scratch / "real");
  write(scratch / "real/a", "old");
  std::filesystem::create_symlink("real/a", scratch / "middle");
  std::filesystem::create_symlink(scratch / "middle", scratch / "link");
  CHECK(kind_of_failure([&] { AtomicFile(scratch / "link", false); }) == ErrorKind::usage);
  {
    AtomicFile file(scratch / "link", true);
    CHECK(std::filesystem::path(file.temporary()).parent_path() == scratch / "real");
    write(file.temporary(), "new");
    CHECK(file.commit() == scratch / "link");
  }
  CHECK(std::filesystem::is_symlink(scratch / "link"));
  CHECK(std::filesystem::is_symlink(scratch / "middle"));
  CHECK(read_text_file(scratch / "real/a") == "new");
  std::filesystem::create_symlink("real/b", scratch / "dangling");  // needs no force: nothing is there yet
  write_text_file(scratch / "dangling", "made", false);
  CHECK(read_text_file(scratch / "real/b") == "made");
  CHECK(std::filesystem::is_symlink(scratch / "dangling"));
  std::filesystem::create_symlink("circle", scratch / "circle");
  CHECK(kind_of_failure([&] { require_writable(scratch / "circle", true); }) == ErrorKind::input);
}

TEST_CASE("a file that is replaced leaves its mode, and nobody reads the new one before") {
  const Scratch scratch;
  for (const mode_t mode : {0600, 0640, 0755}) {
    write(scratch / "a", "old");
    chmod((scratch / "a").c_str(), mode);
    AtomicFile file(scratch / "a", true);
    CHECK((mode_of(file.temporary()) & 077) == (mode & 077));
    write(file.temporary(), "new");
    file.commit();
    CHECK(mode_of(scratch / "a") == mode);
  }
  const mode_t before = umask(0027);
  write_text_file(scratch / "b", "text");
  umask(before);
  CHECK(mode_of(scratch / "b") == 0640);  // a new file: as the process makes files
}

TEST_CASE("a read-only file is not replaced, for root neither") {
  const Scratch scratch;
  write(scratch / "a", "old");
  chmod((scratch / "a").c_str(), 0444);
  CHECK(kind_of_failure([&] { require_writable(scratch / "a", true); }) == ErrorKind::input);
  CHECK(kind_of_failure([&] { write_text_file(scratch / "a", "new"); }) == ErrorKind::input);
  CHECK(read_text_file(scratch / "a") == "old");
  CHECK(scratch.files() == 1);
}

TEST_CASE("the longest names that a file may have") {
  const Scratch scratch;
  const std::string longest = std::string(252, 'n') + ".h5";
  write_text_file(scratch / longest, "text", false);
  CHECK(read_text_file(scratch / longest) == "text");
  CHECK(scratch.files() == 1);
  AtomicFile file(scratch / longest, false, IfTaken::beside);
  write(file.temporary(), "ours");
  CHECK(file.commit() == scratch / (std::string(250, 'n') + ".1.h5"));
  CHECK(kind_of_failure([&] { require_writable(scratch / std::string(256, 'n'), true); }) == ErrorKind::input);
}

TEST_CASE("temporaries that a killed run left are removed, those of others are not") {
  const Scratch scratch;
  for (const std::string& name : {std::string("a.h5"), std::string(250, 'n')}) {
    CAPTURE(name);
    const std::string ours = make_temporary(scratch / name, name), self = fmt::format(".{}.", getpid());
    const auto of_process = [&](int process) {
      std::string other = ours;
      return other.replace(other.rfind(self), self.size(), fmt::format(".{}.", process));
    };
    const std::string dead = of_process(finished_process()), living = of_process(getppid());
    std::string elsewhere = dead;  // the same number on another machine
    elsewhere.replace(elsewhere.rfind(".tmp.") + 5, 8, "zzzzzzzz");
    const std::string other_file = scratch / ("b.h5" + dead.substr(dead.rfind(".tmp.")));
    for (const std::string& path : {dead, living, elsewhere, other_file}) write(path, "");
    {
      const AtomicFile file(scratch / name, true);
      CHECK_FALSE(std::filesystem::exists(dead));
    }
    for (const std::string& path : {ours, living, elsewhere, other_file}) CHECK(std::filesystem::remove(path));
    CHECK(scratch.files() == 0);
  }
}

TEST_CASE("targets that cannot be files") {
  const Scratch scratch;
  CHECK(kind_of_failure([&] { require_writable(scratch / "none/a", false); }) == ErrorKind::input);
  CHECK(kind_of_failure([&] { require_writable(scratch / ".", true); }) == ErrorKind::usage);
  CHECK(kind_of_failure([&] { require_writable("/proc/none", false); }) == ErrorKind::input);  // for root neither
  require_writable(scratch / "free", false);
  CHECK(scratch.files() == 0);  // what was tried is gone
  for (const char* stream : {"/dev/null", "/dev/stdout", "-"})
    CHECK(kind_of_failure([&] { require_writable(stream, true); }) == ErrorKind::usage);
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

TEST_CASE("a folder to write into is there, or can be made in one that is") {
  const Scratch scratch;
  write_text_file(scratch / "file", "");
  for (const char* name : {".", "new", "new/"}) CHECK_NOTHROW(require_folder_writable(scratch / name));
  for (const char* name : {"none/new", "none/new/", "file", "file/new"})
    CHECK(kind_of_failure([&] { require_folder_writable(scratch / name); }) == ErrorKind::input);
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
