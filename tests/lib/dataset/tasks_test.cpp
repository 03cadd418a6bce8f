// How each task's lines become questions, by hand.
#include "dataset/tasks.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/error.h"

using namespace hone;

namespace {

using Texts = std::vector<std::string>;

struct Folder {
  Folder() {
    char name[] = "/tmp/hone_tasks_XXXXXX";
    REQUIRE(mkdtemp(name));
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string put(const std::string& name, const std::string& text) const {
    std::ofstream(path + "/" + name) << text;
    return path + "/" + name;
  }
  std::string path;
};

Question one(const std::string& task, std::string line) {
  std::replace(line.begin(), line.end(), '\n', ' ');  // of the source's lines
  const Folder folder;
  const QuestionFile file = read_task(task, folder.put("x.jsonl", line + "\n"));
  REQUIRE(file.questions.size() == 1);
  CHECK(file.name == task);
  return file.questions.front();
}

std::string failure(const std::string& task, const std::string& line) {
  try {
    one(task, line);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("hellaswag: cleaned, the second half capitalized") {
  const Question q =
      one("hellaswag", R"({"ind": 24, "activity_label": "Roof shingle removal", "ctx_a": "A man [substeps] sits.",
      "ctx_b": "he Starts", "endings": ["is [title] Up", "b", "c", "d"], "label": 3})");
  CHECK(q.prompt == "Roof shingle removal: A man sits. He starts");
  CHECK(q.answers == Texts{" is. Up", " b", " c", " d"});
  CHECK(q.label == 3);
  CHECK(q.id == 24);
}

TEST_CASE("piqa: labels in the line, or in the file beside it") {
  CHECK(one("piqa", R"({"goal": "Dig", "sol1": "spade", "sol2": "spoon", "label": 0})").prompt ==
        "Question: Dig\nAnswer:");
  const Folder folder;
  const std::string path = folder.put(
      "v.jsonl", "{\"goal\":\"a\",\"sol1\":\"b\",\"sol2\":\"c\"}\n{\"goal\":\"d\",\"sol1\":\"e\",\"sol2\":\"f\"}\n");
  CHECK_THROWS_WITH_AS(read_task("piqa", path), doctest::Contains("v-labels.lst"), Error);
  folder.put("v-labels.lst", "1\n0\n");
  const QuestionFile file = read_task("piqa", path);
  CHECK(file.questions[0].label == 1);
  CHECK(file.questions[1].label == 0);
  CHECK(file.questions[1].answers == Texts{" e", " f"});
  folder.put("v-labels.lst", "1\n");
  CHECK_THROWS_WITH_AS(read_task("piqa", path), doctest::Contains("line 2"), Error);
}

TEST_CASE("arc, winogrande, lambada, choices") {
  const Question arc =
      one("arc", R"({"id": "M_7", "question": {"stem": "Which?", "choices": [{"text": "x", "label": "A"},
      {"text": "y", "label": "B"}, {"text": "z", "label": "C"}]}, "answerKey": "B"})");
  CHECK(arc.prompt == "Question: Which?\nAnswer:");
  CHECK(arc.answers == Texts{" x", " y", " z"});
  CHECK(arc.label == 1);
  CHECK(arc.id == "M_7");
  const Question w =
      one("winogrande", R"({"qID": "q", "sentence": "Ann gave Bea _ book.", "option1": "her", "option2": "his",
      "answer": "2"})");
  CHECK(w.prompts == Texts{"Ann gave Bea her", "Ann gave Bea his"});
  CHECK(w.answers == Texts{" book.", " book."});
  CHECK(w.label == 1);
  const Question l = one("lambada", R"({"text": " one two three\n"})");
  CHECK(l.prompt == "one two");
  CHECK(l.answers == Texts{" three"});
  CHECK(!l.label);
  const Question c = one("choices", R"({"context": "2 + 2 =", "choices": [" 3", " 4"], "answer": 1})");
  CHECK(c.answers == Texts{" 3", " 4"});
  CHECK(c.label == 1);
}

TEST_CASE("lambada: plain lines") {
  const Folder folder;
  const QuestionFile file = read_task("lambada", folder.put("x.txt", "one two three \n\n{\"text\": 4} five\n"));
  REQUIRE(file.questions.size() == 2);
  CHECK(file.questions[0].prompt == "one two");
  CHECK(file.questions[0].answers == Texts{" three"});
  CHECK(file.questions[1].prompt == "{\"text\": 4}");
  CHECK(file.questions[1].line == 3);
  const auto said = [&](const std::string& task, const std::string& text) -> std::string {
    try {
      read_task(task, folder.put("y.txt", text));
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  CHECK(said("lambada", "one two\n\xff a\n").find("y.txt, line 2: not UTF-8") != std::string::npos);
  CHECK(said("lambada", "one\n").find("no last word") != std::string::npos);
  CHECK(said("choices", "one two\n") != "");  // of other tasks lines are JSON, whatever the file is called
}

TEST_CASE("blimp: a folder of files, in order") {
  const Folder folder;
  folder.put("b.jsonl", R"({"sentence_good": "good b", "sentence_bad": "bad b", "UID": "b"})");
  folder.put("a.jsonl", R"({"sentence_good": "good a", "sentence_bad": "bad a", "UID": "a"})");
  folder.put("notes.txt", "no");
  const QuestionFile file = read_task("blimp", folder.path);
  REQUIRE(file.questions.size() == 2);
  CHECK(file.questions[0].answers == Texts{"good a", "bad a"});
  CHECK(file.questions[0].prompt.empty());
  CHECK(file.questions[1].label == 0);
}

TEST_CASE("lines that lack something are named") {
  CHECK(failure("hellaswag", R"({"ctx_a": "a"})").find("line 1: no \"activity_label\"") != std::string::npos);
  CHECK(failure("piqa", R"({"goal": 1})").find("\"goal\" is not a string") != std::string::npos);
  CHECK(failure("choices", R"({"context": "", "choices": ["a"], "answer": 0})").find("at least two") !=
        std::string::npos);
  CHECK(failure("choices", R"({"context": "", "choices": ["a", "b"], "answer": 2})").find("none of the 2") !=
        std::string::npos);
  CHECK(failure("choices", R"({"context": "", "choices": ["a", "b"], "answer": -1})").find("none of the 2") !=
        std::string::npos);
  CHECK(failure("arc", R"({"question": {"stem": "s", "choices": []}, "answerKey": "A"})").find("no choice") !=
        std::string::npos);
  CHECK(failure("winogrande", R"({"sentence": "s", "option1": "a", "option2": "b", "answer": "1"})").find("has no _") !=
        std::string::npos);
  CHECK(failure("lambada", R"({"text": "word"})").find("last word") != std::string::npos);
  CHECK(failure("lambada", "[]").find("not an object") != std::string::npos);
  CHECK(failure("lambada", "").find("no question") != std::string::npos);
  CHECK_THROWS_WITH_AS(read_task("mmlu", "x"), doctest::Contains("hellaswag, piqa"), Error);
}
