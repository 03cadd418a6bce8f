#include "dataset/few_shot.h"

#include <doctest/doctest.h>

#include <set>

#include "base/error.h"
#include "support/failure.h"
#include "support/scratch.h"

using namespace hone;
using namespace hone::test;

namespace {

// "Q0:" with the answers " a0" and " b0", of which the second is right; …
QuestionFile numbered(int count, const std::string& letter = "Q") {
  QuestionFile file{"f", {}};
  for (int i = 0; i < count; ++i) {
    Question q;
    q.prompt = letter + std::to_string(i) + ":";
    q.answers = {" a" + std::to_string(i), " b" + std::to_string(i)};
    q.label = 1;
    file.questions.push_back(q);
  }
  return file;
}

std::vector<std::string> prompts(const QuestionFile& file) {
  std::vector<std::string> all;
  for (const Question& q : file.questions) all.push_back(q.prompt);
  return all;
}

}  // namespace

TEST_CASE("few shots: examples with their right answers, a blank line behind each, and never the question itself") {
  QuestionFile file = numbered(3);
  add_examples(file, nullptr, 2, 1);
  for (int i = 0; i < 3; ++i) {
    const std::string own = "Q" + std::to_string(i) + ":";
    const int a = i == 0 ? 1 : 0, b = i == 2 ? 1 : 2;  // all the others, in some order
    const auto text = [](int k) { return "Q" + std::to_string(k) + ": b" + std::to_string(k) + "\n\n"; };
    const std::string& prompt = file.questions[static_cast<size_t>(i)].prompt;
    CHECK((prompt == text(a) + text(b) + own || prompt == text(b) + text(a) + own));
  }
}

TEST_CASE("few shots: drawn by seed and place, from another file where there is one") {
  QuestionFile one = numbered(40), same = numbered(40), other = numbered(40);
  add_examples(one, nullptr, 3, 1);
  add_examples(same, nullptr, 3, 1);
  add_examples(other, nullptr, 3, 2);
  CHECK(prompts(one) == prompts(same));
  CHECK(prompts(one) != prompts(other));
  QuestionFile part = numbered(10);
  const QuestionFile examples = numbered(4, "E");
  add_examples(part, &examples, 4, 1);
  std::set<std::string> orders;
  for (const Question& q : part.questions) {
    orders.insert(q.prompt.substr(0, q.prompt.find('Q')));
    CHECK(q.prompt.find("E3: b3\n\n") != std::string::npos);
  }
  CHECK(orders.size() > 3);
  QuestionFile none = numbered(2);
  add_examples(none, nullptr, 0, 1);
  CHECK(prompts(none) == prompts(numbered(2)));
}

TEST_CASE("few shots: before each of several prompts, and after the right one in an example") {
  QuestionFile file = numbered(2);
  for (Question& q : file.questions) {
    q.prompts = {q.prompt + "left", q.prompt + "right"};
    q.answers = {" end", " end"};
  }
  add_examples(file, nullptr, 1, 1);
  CHECK(file.questions[0].prompts == std::vector<std::string>{"Q1:right end\n\nQ0:left", "Q1:right end\n\nQ0:right"});
}

TEST_CASE("few shots: too few questions, and questions without a prompt") {
  QuestionFile file = numbered(3), bare = numbered(3);
  CHECK(kind_of_failure([&] { add_examples(file, nullptr, 3, 1); }) == ErrorKind::input);
  bare.questions[2].prompt.clear();
  CHECK(kind_of_failure([&] { add_examples(bare, nullptr, 1, 1); }) == ErrorKind::usage);
}
