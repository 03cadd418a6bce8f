#include "dataset/questions.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"

using namespace hone;

namespace {

QuestionFile questions(const std::vector<std::pair<std::string, std::string>>& pairs) {
  QuestionFile file{"questions", {}};
  for (const auto& [prompt, answer] : pairs)
    file.questions.push_back({prompt, {answer}, {}, {}, file.questions.size() + 1});
  return file;
}

std::shared_ptr<const Tokenizer> bytes() {
  return make_tokenizer({{"kind", "bytes"}});
}

std::vector<int32_t> tokens(const Corpus& corpus) {
  std::vector<int32_t> ids(static_cast<size_t>(corpus.size()));
  corpus.copy(0, corpus.size(), ids.data());
  return ids;
}

// A file of these lines.
class Lines {
 public:
  explicit Lines(const std::string& text) {
    char name[] = "/tmp/hone_questions_XXXXXX";
    const int fd = ::mkstemp(name);
    REQUIRE(fd >= 0);
    ::close(fd);
    path = name;
    std::ofstream(path) << text;
  }
  ~Lines() { std::filesystem::remove(path); }
  std::string path;
};

std::string failure_of(const std::string& text) {
  const Lines lines(text);
  try {
    read_questions(std::vector{lines.path});
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.what();
  }
  FAIL("nothing was thrown for " << text);
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

}  // namespace

TEST_CASE("a question is a window of which the answer is scored, its last tokens where it is long") {
  const std::vector files = {questions({{"abc", "de"}, {"0123456789", "x"}})};
  const Questions q = tokenize_questions(files, bytes(), 5, 0);
  REQUIRE(q.windows.size() == 2);
  CHECK(q.text.size() == 16);
  CHECK(q.windows[0].begin == 0);
  CHECK(q.windows[0].length == 4);
  CHECK(q.windows[0].first_scored == 2);  // the input c, whose target is d
  CHECK(q.windows[1].begin == 10);
  CHECK(q.windows[1].length == 5);
  CHECK(q.windows[1].first_scored == 4);
  CHECK(q.shortened == 1);
  std::vector<int32_t> ids(6);
  q.text.copy(10, 6, ids.data());
  CHECK(ids == std::vector<int32_t>{'5', '6', '7', '8', '9', 'x'});
}

TEST_CASE("an empty prompt is the separator before a document") {
  const std::vector files = {questions({{"", "abc"}})};
  const Questions q = tokenize_questions(files, bytes(), 3, 0);
  CHECK(tokens(q.text) == std::vector<int32_t>{document_separator, 'a', 'b', 'c'});
  CHECK(q.windows[0].length == 3);
  CHECK(q.windows[0].first_scored == 0);  // every byte of the answer is a target
  CHECK(q.shortened == 0);
}

TEST_CASE("each of several answers has a window behind a prompt of its own") {
  std::vector files = {QuestionFile{"q", {{"ab", {"c", "de"}, 1, {}, 1}, {"", {"x", "y", "z"}, 0, {}, 2}}}};
  const Questions q = tokenize_questions(files, bytes(), 50, 0);
  const int32_t end = document_separator;
  CHECK(tokens(q.text) == std::vector<int32_t>{'a', 'b', 'c', 'a', 'b', 'd', 'e', end, 'x', end, 'y', end, 'z'});
  REQUIRE(q.windows.size() == 5);
  CHECK(q.windows[1].begin == 3);
  CHECK(q.windows[1].length == 3);
  CHECK(q.windows[1].first_scored == 1);
  CHECK(q.questions.size() == 2);
  CHECK(q.questions[1] == &files[0].questions[1]);
  CHECK(tokenize_questions(files, bytes(), 2, 0).shortened == 1);  // counted once, whichever answer is long
}

TEST_CASE("a limit counts the tokens of whole questions") {
  const std::vector files = {questions({{"abc", "de"}, {"fgh", "ij"}, {"klm", "no"}})};
  CHECK(tokenize_questions(files, bytes(), 50, 0).windows.size() == 3);
  CHECK(tokenize_questions(files, bytes(), 50, 10).windows.size() == 2);
  CHECK(tokenize_questions(files, bytes(), 50, 9).windows.size() == 1);
  CHECK(tokenize_questions(files, bytes(), 50, 1).windows.size() == 1);
  CHECK(tokenize_questions(files, bytes(), 50, 9).text.size() == 5);
  CHECK(tokenize_questions(files, bytes(), 3, 0).shortened == 3);
  CHECK(tokenize_questions(files, bytes(), 3, 9).shortened == 1);
}

TEST_CASE("an answer beyond the context is refused with its place") {
  const std::vector files = {questions({{"a", "bcd"}})};
  CHECK_NOTHROW(tokenize_questions(files, bytes(), 3, 0));
  CHECK_THROWS_WITH_AS(tokenize_questions(files, bytes(), 2, 0),
                       "questions, line 1: the answer has 3 tokens, more than the context of 2", Error);
}

TEST_CASE("lines are questions, also those that have a text") {
  const Lines lines(
      "{\"id\": 7, \"prompt\": \"p\", \"answer\": \"a\", \"text\": \"ignored\"}\n\n"
      "{\"id\": \"x\", \"prompt\": \"\", \"answer\": \"\\ud83d\", \"answers\": {\"of\": \"another form\"}}\n");
  const QuestionFile file = read_questions(lines.path);
  REQUIRE(file.questions.size() == 2);
  CHECK(file.questions[0].prompt == "p");
  CHECK(file.questions[0].answers == std::vector<std::string>{"a"});
  CHECK(file.questions[0].id == 7);
  CHECK(!file.questions[0].label);
  CHECK(file.questions[1].answers == std::vector<std::string>{"\xef\xbf\xbd"});
  CHECK(file.questions[1].id == "x");
  CHECK(file.questions[1].line == 3);
  CHECK(!are_choices({file}));
}

TEST_CASE("several answers have a label, a number or its digits") {
  const Lines lines(
      "{\"prompt\": \"p\", \"answers\": [\"a\", \"b\"], \"label\": 1}\n"
      "{\"prompt\": \"p\", \"answers\": [\"a\", \"b\", \"c\"], \"label\": \"2\", \"answer\": \"c\"}\n");
  const QuestionFile file = read_questions(lines.path);
  REQUIRE(file.questions.size() == 2);
  CHECK(file.questions[0].label == 1);
  CHECK(file.questions[1].label == 2);
  CHECK(file.questions[1].answers.size() == 3);
  CHECK(are_choices({file}));
}

TEST_CASE("lines that are no questions are refused with their number") {
  const std::string good = "{\"prompt\": \"p\", \"answer\": \"a\"}\n";
  for (const char* line : {"{\"text\": \"t\"}", "{\"prompt\": \"p\"}", "{\"answer\": \"a\"}", "[]", "words",
                           "{\"prompt\": \"p\", \"answer\": \"\"}", "{\"prompt\": \"p\", \"answer\": 3}",
                           "{\"prompt\": \"p\", \"answers\": [\"a\", \"b\"]}"})
    CHECK(contains(failure_of(good + line), ", line 2: "));
  for (const char* rest : {"[\"a\"], \"label\": 0", "[], \"label\": 0", "[\"a\", 3], \"label\": 0"})
    CHECK(contains(failure_of(fmt::format("{{\"prompt\": \"p\", \"answers\": {}}}", rest)), "at least two strings"));
  for (const char* label : {"2", "-1", "0.5", "\"b\"", "\"\"", "null", "\"99999999999999999999\""})
    CHECK(contains(failure_of(fmt::format("{{\"prompt\": \"p\", \"answers\": [\"a\", \"b\"], \"label\": {}}}", label)),
                   "from 0 to 1"));
  CHECK(contains(failure_of(good + "{\"prompt\": \"p\", \"answers\": [\"a\", \"b\"], \"label\": 0}"),
                 "files of their own"));
  CHECK(contains(failure_of("\n"), "holds no question"));
}
