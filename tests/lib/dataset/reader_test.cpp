#include "dataset/reader.h"

#include <doctest/doctest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "base/error.h"

using hone::Error;
using hone::ErrorKind;
using hone::open_text;

namespace {

class Folder {
 public:
  Folder() {
    char name[] = "/tmp/hone_reader_XXXXXX";
    REQUIRE(::mkdtemp(name));
    path_ = name;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string path(const std::string& name) const { return path_ + "/" + name; }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name), std::ios::binary) << text;
    return path(name);
  }

 private:
  std::string path_;
};

std::string failure_of(const std::string& path, ErrorKind kind = ErrorKind::input) {
  try {
    open_text(path);
  } catch (const Error& error) {
    CHECK(error.kind() == kind);
    return error.what();
  }
  FAIL("nothing was thrown for " << path);
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

}  // namespace

TEST_CASE("plain text is one document of its bytes, whatever they are") {
  const Folder folder;
  const std::string text("a\r\n\0\xff tail without newline", 26);
  const auto source = open_text(folder.write("a.txt", text));
  REQUIRE(source.documents.size() == 1);
  CHECK(source.documents[0] == text);
  CHECK(source.bytes() == 26);
  CHECK(source.name == folder.path("a.txt"));
}

TEST_CASE("a pipe is read to its end") {
  const Folder folder;
  const std::string path = folder.path("pipe"), text(300000, 'p');
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  std::thread writer([&] { std::ofstream(path) << text; });
  const auto source = open_text(path);
  writer.join();
  REQUIRE(source.documents.size() == 1);
  CHECK(source.documents[0] == text);
}

TEST_CASE("'-' is standard input, once") {
  const Folder folder;
  const std::string path = folder.write("in.txt", "from standard input");
  const int saved = ::dup(0);
  REQUIRE(std::freopen(path.c_str(), "r", stdin));
  CHECK(open_text("-").documents.at(0) == "from standard input");
  CHECK(contains(failure_of("-"), "standard input holds no text"));
  ::dup2(saved, 0);
  ::close(saved);
  CHECK_THROWS_AS(hone::open_texts({"-", path, "-"}), Error);
}

TEST_CASE("JSONL is one document a line, unescaped; blank lines and empty texts are none") {
  const Folder folder;
  const auto source = open_text(folder.write(
      "a.jsonl",
      "{\"text\": \"one\\n\\u00e9\"}\r\n\n  \n{\"id\": 3, \"text\": \"\"}\n{\"text\":\"two \\u0000 ü\",\"x\":[1,{}]}"));
  REQUIRE(source.documents.size() == 2);
  CHECK(source.documents[0] == "one\né");
  CHECK(source.documents[1] == std::string_view("two \0 ü", 8));
}

TEST_CASE("several files are opened in order") {
  const Folder folder;
  const auto sources = hone::open_texts(
      {folder.write("b.txt", "second letter"), folder.write("a.jsonl", "{\"text\":\"x\"}\n{\"text\":\"y\"}")});
  REQUIRE(sources.size() == 2);
  CHECK(sources[0].name == folder.path("b.txt"));
  CHECK(hone::documents_of(sources) == std::vector<std::string_view>{"second letter", "x", "y"});
}

TEST_CASE("a bad line of JSONL is named by its number") {
  const Folder folder;
  const std::string good = "{\"text\": \"fine\"}\n\n";
  const struct {
    const char* line;
    const char* says;
  } cases[] = {
      {"{\"text\": \"\xff\"}", "byte 11 is not valid UTF-8"},
      {"{\"text\": \"cut", "not JSON"},
      {"plain words", "not JSON"},
      {"{\"text\": \"a\"} {\"text\": \"b\"}", "not JSON"},
      {"{\"text\": 3}", "string \"text\""},
      {"{\"body\": \"a\"}", "string \"text\""},
      {"[\"text\"]", "string \"text\""},
      {"\"text\"", "string \"text\""},
      {"{\"text\": \"\\ud800\"}", "not JSON"},
  };
  for (const auto& c : cases) {
    CAPTURE(c.line);
    const std::string path = folder.write("bad.jsonl", good + c.line + "\n" + good);
    const std::string message = failure_of(path);
    CHECK(contains(message, path + ", line 3: "));
    CHECK(contains(message, c.says));
  }
  const std::string deep = folder.write("deep.jsonl", std::string(1000000, '['));
  CHECK(contains(failure_of(deep), "line 1"));
}

TEST_CASE("missing, empty and unreadable files are input errors that name the file") {
  const Folder folder;
  CHECK(contains(failure_of(folder.path("none.txt")), "none.txt"));
  CHECK(contains(failure_of(folder.write("empty.txt", "")), "empty.txt"));
  CHECK(contains(failure_of(folder.write("empty.jsonl", "\n\n{\"text\": \"\"}\n")), "empty.jsonl"));
  CHECK(contains(failure_of(folder.path("")), "directory"));
}
