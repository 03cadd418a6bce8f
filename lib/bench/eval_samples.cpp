#include "bench/eval_samples.h"

#include <cmath>

namespace hone {

std::vector<Choice> choices_of(const Questions& questions) {
  std::vector<Choice> choices;
  for (const Question* q : questions.questions) choices.push_back({q->answers.size(), q->label.value()});
  return choices;
}

std::string sample_lines(const std::string& model, const Questions& questions, std::span<const WindowScore> answers) {
  std::string lines;
  size_t number = 0;
  for (const Question* question : questions.questions) {
    const auto scores = answers.first(question->answers.size());
    answers = answers.subspan(scores.size());
    nlohmann::ordered_json line = {{"model", model}, {"question", ++number}};
    if (!question->id.is_null()) line["id"] = question->id;
    line["prompt"] = question->prompt;
    for (size_t a = 0; a < scores.size(); ++a) {
      nlohmann::ordered_json answer = {{"text", question->answers[a]}, {"log_probability", nullptr}};
      if (std::isfinite(scores[a].loss)) answer["log_probability"] = -scores[a].loss;
      answer["tokens"] = scores[a].tokens;
      answer["bytes"] = scores[a].bytes;
      line["answers"].push_back(std::move(answer));
    }
    if (question->label) {
      Scores of_question;
      for (const WindowScore& score : scores) of_question.add(score);
      const std::vector<Choice> choice = {{scores.size(), *question->label}};
      const WindowScore result = scores_of_choices(of_question, choice).windows().front();
      line["label"] = *question->label;
      line["right"] = result.correct == 1;
      line["right_by_bytes"] = result.correct_by_bytes == 1;
    } else {
      line["right"] = scores.front().correct == 1;
    }
    // A path need not be UTF-8, JSON must be.
    lines += line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }
  return lines;
}

}  // namespace hone
