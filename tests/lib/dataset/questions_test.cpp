#include "dataset/questions.h"

#include <doctest/doctest.h>

#include "base/error.h"

using namespace hone;

namespace {

TextSource questions(std::vector<std::pair<std::string, std::string>> pairs) {
  auto owner = std::make_shared<std::vector<std::string>>();
  TextSource source{"q.jsonl", {}, owner};
  for (const auto& [prompt, answer] : pairs) owner->push_back(prompt + answer);
  for (size_t i = 0; i < pairs.size(); ++i) {
    source.documents.push_back((*owner)[i]);
    source.answers.push_back(pairs[i].first.size());
  }
  return source;
}

std::shared_ptr<const Tokenizer> bytes() {
  return make_tokenizer({{"kind", "bytes"}});
}

}  // namespace

TEST_CASE("a question is a window of which the answer is scored, its last tokens where it is long") {
  const Questions q = open_questions({questions({{"abc", "de"}, {"0123456789", "x"}})}, bytes(), 5, 0);
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

TEST_CASE("a limit counts the tokens of whole questions") {
  const auto source = questions({{"abc", "de"}, {"fgh", "ij"}, {"klm", "no"}});
  CHECK(open_questions({source}, bytes(), 50, 0).windows.size() == 3);
  CHECK(open_questions({source}, bytes(), 50, 10).windows.size() == 2);
  CHECK(open_questions({source}, bytes(), 50, 9).windows.size() == 1);
  CHECK(open_questions({source}, bytes(), 50, 1).windows.size() == 1);
  CHECK(open_questions({source}, bytes(), 3, 0).shortened == 3);
  CHECK(open_questions({source}, bytes(), 3, 9).shortened == 1);
}

TEST_CASE("questions that cannot be scored are refused") {
  CHECK_THROWS_AS(open_questions({questions({{"abc", ""}})}, bytes(), 50, 0), Error);
  CHECK_THROWS_AS(open_questions({questions({{"", "abc"}})}, bytes(), 50, 0), Error);
  CHECK_THROWS_AS(open_questions({questions({{"a", "bcd"}})}, bytes(), 2, 0), Error);
  CHECK_THROWS_AS(open_questions({text_in_memory("plain", "a.txt")}, bytes(), 50, 0), Error);
}
