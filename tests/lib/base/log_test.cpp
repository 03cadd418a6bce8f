#include "base/log.h"

#include <doctest/doctest.h>

#include "base/error.h"

using namespace hone;

TEST_CASE("log levels go by name, and an unknown one is a usage error that lists them") {
  CHECK(log_level_named("error") == LogLevel::error);
  CHECK(log_level_named("debug") == LogLevel::debug);
  try {
    log_level_named("loud");
    FAIL("nothing was thrown");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
    CHECK(std::string(error.what()) == "unknown log level 'loud'; use error, warning, info or debug");
  }
}

TEST_CASE("one line: line ends become blanks, and what is too long loses the middle of its quoted parts first") {
  CHECK(one_line("a\nb\r\n", 80) == "a b ");
  CHECK(one_line("short", 5) == "short");
  const std::string path = "/" + std::string(300, 'd') + "/model.h5";
  const std::string line = one_line("error: '" + path + "' cannot be read; give another", 200);
  CHECK(line.size() == 202);  // 200 characters, of which one has three bytes
  CHECK(line.find("/ddd") != std::string::npos);
  CHECK(line.find("dd/model.h5' cannot be read; give another") != std::string::npos);
  CHECK(one_line(std::string(5000, 'x'), 200).size() == 4002);
  std::string accents;
  for (int i = 0; i < 300; ++i) accents += "\u00e9";
  const std::string cut = one_line("'" + accents + "'", 102);
  CHECK(cut.size() == 99 * 2 + 3 + 2);  // whole characters
}

TEST_CASE("one line: a list of names stays whole, and what is quoted beside it keeps some room") {
  std::string names = "one";
  for (int i = 0; i < 100; ++i) names += ", another";
  const std::string text = "error: '" + std::string(90, 'q') + "' is no name; there are " + names;
  CHECK(one_line(text, 200) == text);
  const std::string line = one_line("'" + std::string(300, 'q') + "': " + names, 200);
  CHECK(line == "'" + std::string(49, 'q') + "\u2026" + std::string(50, 'q') + "': " + names);
}

TEST_CASE("one line: the longest quoted part is the one of most characters, whatever bytes they have") {
  std::string signs;
  for (int i = 0; i < 20; ++i) signs += "\u20ac";  // 60 bytes
  const std::string line = one_line("'" + signs + "' is not '" + std::string(50, 'q') + "'", 60);
  CHECK(line == "'" + signs + "' is not '" + std::string(13, 'q') + "\u2026" + std::string(14, 'q') + "'");
}
