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
#include "dataset/text_file.h"

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
  };
  for (const auto& c : cases) {
    CAPTURE(c.line);
    const std::string path = folder.write("bad.jsonl", good + c.line + "\n" + good);
    const std::string message = failure_of(path);
    CHECK(contains(message, path + ", line 3: "));
    CHECK(contains(message, c.says));
  }
  const std::string deep =
      folder.write("deep.jsonl", "{\"text\": \"a\", \"x\": " + std::string(70, '[') + std::string(70, ']') + "}");
  CHECK(contains(failure_of(deep), "line 1: it is nested more than 64 levels deep"));
}

TEST_CASE("missing, empty and unreadable files are input errors that name the file") {
  const Folder folder;
  CHECK(contains(failure_of(folder.path("none.txt")), "none.txt"));
  CHECK(contains(failure_of(folder.write("empty.txt", "")), "empty.txt"));
  CHECK(contains(failure_of(folder.write("empty.jsonl", "\n\n{\"text\": \"\"}\n")), "empty.jsonl"));
  CHECK(contains(failure_of(folder.path("")), "directory"));
}

TEST_CASE("the names of JSON lines, in either case, also behind those of compression") {
  const Folder folder;
  const std::string line = "{\"text\": \"a b\"}\n";
  for (const char* name : {"a.jsonl", "a.JSONL", "a.ndjson", "b.x.NDJSON"})
    CHECK(open_text(folder.write(name, line)).documents == std::vector<std::string_view>{"a b"});
  for (const char* name : {"a.json", "jsonl", "a.jsonl.txt", "a.txt"})
    CHECK(open_text(folder.write(name, line)).documents == std::vector<std::string_view>{line});
}

TEST_CASE("compressed text is read by its first bytes, JSON lines by the name before") {
  const Folder folder;
  // gzip -n of {"text": "a"} and a line end; a stored block, so that its bytes can be read here.
  const std::string line = "{\"text\": \"a\"}\n";
  const std::string packed = std::string("\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\x0e\0\xf1\xff", 15) + line +
                             std::string("\xbd\xd2\x2a\x20\x0e\0\0\0", 8);
  CHECK(open_text(folder.write("a.jsonl.gz", packed)).documents == std::vector<std::string_view>{"a"});
  CHECK(open_text(folder.write("a.NDJSON.GZ", packed)).documents == std::vector<std::string_view>{"a"});
  CHECK(open_text(folder.write("a.txt.gz", packed)).documents == std::vector<std::string_view>{line});
  CHECK(open_text(folder.write("no extension", packed)).documents == std::vector<std::string_view>{line});
  CHECK(hone::text_of_bytes(packed, "a") == line);
  CHECK(hone::text_of_bytes("plain", "a") == "plain");
  CHECK(contains(failure_of(folder.write("plain.gz", "plain")), "not compressed, though its name says so"));
  CHECK(contains(failure_of(folder.write("cut.txt", packed.substr(0, 20))), "cut.txt': its gzip data ends"));
  CHECK(contains(failure_of(folder.write("empty.gz", "")), "holds no text"));
}

TEST_CASE("what is no text by its first bytes is refused, also within compressed data and from a pipe") {
  const Folder folder;
  const std::string png("\x89PNG\r\n\x1a\n", 8);
  CHECK(contains(failure_of(folder.write("a.txt", png)), "a.txt' is a PNG image"));
  CHECK(contains(failure_of(folder.write("a.jsonl", png)), "a.jsonl' is a PNG image"));
  // A stored block of these eight bytes.
  const std::string packed = std::string("\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\x08\0\xf7\xff", 15) + png +
                             std::string("\xa4\x09\x07\x7a\x08\0\0\0", 8);
  CHECK(contains(failure_of(folder.write("a.gz", packed)), "a.gz' holds a PNG image"));
  const std::string path = folder.path("pipe");
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  std::thread writer([&] { std::ofstream(path) << png; });
  CHECK(contains(failure_of(path), "is a PNG image"));
  writer.join();
  CHECK(hone::kind_of_file(folder.path("a.txt"))->name == "a PNG image");
  CHECK(hone::kind_of_file(path) == nullptr);
  CHECK(hone::kind_of_file(folder.path("none")) == nullptr);
  CHECK(hone::kind_of_file(folder.write("t.txt", "text")) == nullptr);
}

TEST_CASE("half a surrogate pair is U+FFFD, a whole one its character") {
  const Folder folder;
  const auto source =
      open_text(folder.write("a.jsonl",
                             "{\"text\": \"a\\ud83db\"}\n{\"text\": \"\\uDE00\\ud83d\\ude00\\uD83D\"}\n"
                             "{\"text\": \"\\\\ud83d \\u00e9\"}\n{\"text\": \"\\ud83d\\ud83d\\ude00\"}\n"));
  REQUIRE(source.documents.size() == 4);
  CHECK(source.documents[0] ==
        "a\xef\xbf\xbd"
        "b");
  CHECK(source.documents[1] == "\xef\xbf\xbd\xf0\x9f\x98\x80\xef\xbf\xbd");
  CHECK(source.documents[2] == "\\ud83d \xc3\xa9");  // a backslash and letters
  CHECK(source.documents[3] == "\xef\xbf\xbd\xf0\x9f\x98\x80");
  CHECK(contains(failure_of(folder.write("bad.jsonl", "{\"text\": \"\\ud8\"}")), "not JSON"));
}

TEST_CASE("a question is the document of its prompt and its right answer") {
  const Folder folder;
  const auto source = open_text(folder.write("a.jsonl",
                                             "{\"prompt\": \"p \", \"answer\": \"a\"}\n"
                                             "{\"prompt\": \"q \", \"answers\": [\"a\", \"b\"], \"label\": 1}\n"
                                             "{\"prompt\": \"q \", \"answer\": \"a\", \"text\": \"t\"}\n"));
  CHECK(source.documents == std::vector<std::string_view>{"p a", "q b", "t"});
}

TEST_CASE("texts are split at the byte where a corpus of bytes is") {
  const Folder folder;
  const auto sources = hone::open_texts({folder.write("a.jsonl", "{\"text\":\"abc\"}\n{\"text\":\"defg\"}"),
                                         folder.write("b.txt", "hij")});  // abc|defg|hij: 12 with separators
  const auto parts = [&](double fraction) {
    const auto [first, last] = hone::split_texts(sources, fraction);
    return std::pair(hone::documents_of(first), hone::documents_of(last));
  };
  using Texts = std::vector<std::string_view>;
  CHECK(parts(0.5) == std::pair(Texts{"abc", "de"}, Texts{"fg", "hij"}));
  CHECK(parts(0.75) == std::pair(Texts{"abc"}, Texts{"defg", "hij"}));  // at a separator
  CHECK(parts(0.25) == std::pair(Texts{"abc", "defg"}, Texts{"hij"}));
  CHECK(parts(0.01) == std::pair(Texts{"abc", "defg", "hi"}, Texts{"j"}));
  CHECK(parts(0.99) == std::pair(Texts{}, Texts{"abc", "defg", "hij"}));
  CHECK(hone::split_texts(sources, 0.5).first[0].name == folder.path("a.jsonl"));
  CHECK_THROWS_AS(hone::split_texts(sources, 1), Error);
}
