#include "dataset/few_shot.h"

#include <algorithm>

#include "base/error.h"
#include "base/random.h"
#include "base/spelling.h"

namespace hone {
namespace {

// As a text that was answered.
std::string answered(const Question& question) {
  const size_t right = question.label.value_or(0);
  return (question.prompts.empty() ? question.prompt : question.prompts[right]) + question.answers[right] + "\n\n";
}

}  // namespace

void add_examples(QuestionFile& file, const QuestionFile* from, int64_t count, uint64_t seed) {
  if (count == 0) return;
  std::vector<std::string> examples;
  for (const Question& question : (from ? *from : file).questions) examples.push_back(answered(question));
  const size_t there = examples.size() - (from ? 0 : 1);  // for each question
  if (static_cast<size_t>(count) > there)
    throw input_error("{} has {} to take examples of, fewer than {}", (from ? *from : file).name,
                      counted(there, "question"), count);
  for (size_t q = 0; q < file.questions.size(); ++q) {
    Question& question = file.questions[q];
    if (question.prompt.empty())
      throw usage_error("{}, line {}: a question without a prompt begins a document, and takes no examples before it",
                        file.name, question.line);
    Random random(seed, "examples of question " + std::to_string(q));
    std::vector<size_t> drawn;
    std::string before;
    while (drawn.size() < static_cast<size_t>(count)) {
      const size_t at = random.below(examples.size());
      if ((!from && at == q) || std::find(drawn.begin(), drawn.end(), at) != drawn.end()) continue;
      drawn.push_back(at);
      before += examples[at];
    }
    question.prompt.insert(0, before);
    for (std::string& prompt : question.prompts) prompt.insert(0, before);
  }
}

}  // namespace hone
