#include "cli/eval_tasks.h"

#include <fmt/format.h>

#include <cmath>

#include "report/choices.h"

namespace hone::cli {
namespace {

constexpr const char* mean_name = "accuracy_mean";

bool is_of(const QuestionFile& file, const Question* question) {
  return question >= file.questions.data() && question < file.questions.data() + file.questions.size();
}

void add_interval(MetricValues& values, const std::string& name, const Interval& interval) {
  values[name] = interval.estimate;
  values[name + "_low"] = interval.low;
  values[name + "_high"] = interval.high;
}

}  // namespace

std::vector<TaskScores> scores_by_task(const std::vector<QuestionFile>& tasks, const Questions& taken,
                                       const Scores& windows) {
  std::vector<TaskScores> all;
  size_t window = 0, question = 0;
  for (const QuestionFile& task : tasks) {
    Scores answers;
    std::vector<Choice> choices;
    for (; question < taken.questions.size() && is_of(task, taken.questions[question]); ++question) {
      const Question& q = *taken.questions[question];
      for (size_t a = 0; a < q.answers.size(); ++a) answers.add(windows.windows()[window++]);
      if (q.label) choices.push_back({q.answers.size(), *q.label});
    }
    all.push_back({task.name, choices.empty() ? std::move(answers) : scores_of_choices(answers, choices)});
  }
  return all;
}

void add_tasks(MetricValues& values, std::span<const TaskScores> tasks) {
  if (tasks.empty()) return;
  double sum = 0, variance = 0;
  for (const TaskScores& task : tasks) {
    const double accuracy = task.scores.accuracy(), error = task.scores.accuracy_stderr();
    values["accuracy_" + task.name] = accuracy;
    values["accuracy_" + task.name + "_stderr"] = error;
    sum += accuracy;
    variance += error * error;
  }
  const auto count = static_cast<double>(tasks.size());
  values[mean_name] = sum / count;
  values[std::string(mean_name) + "_stderr"] = std::sqrt(variance) / count;
}

void add_task_differences(MetricValues& values, std::span<const TaskScores> model,
                          std::span<const TaskScores> baseline) {
  if (model.empty()) return;
  double sum = 0, below = 0, above = 0;
  for (size_t t = 0; t < model.size(); ++t) {
    Interval difference;
    for (const MetricComparison& metric : compare(model[t].scores, baseline[t].scores).metrics)
      if (metric.metric == "accuracy") difference = metric.difference;
    add_interval(values, "accuracy_" + model[t].name + "_difference", difference);
    sum += difference.estimate;
    below += std::pow(difference.estimate - difference.low, 2);
    above += std::pow(difference.high - difference.estimate, 2);
  }
  const auto count = static_cast<double>(model.size());
  const double mean = sum / count;
  add_interval(values, std::string(mean_name) + "_difference",
               {mean, mean - std::sqrt(below) / count, mean + std::sqrt(above) / count});
}

std::vector<std::string> task_metric_names(const std::vector<std::string>& tasks, bool baseline) {
  std::vector<std::string> all = tasks, names;
  all.emplace_back("mean");
  for (const std::string& task : all) {
    names.push_back("accuracy_" + task);
    names.push_back("accuracy_" + task + "_stderr");
    if (baseline)
      for (const char* end : {"", "_low", "_high"}) names.push_back("accuracy_" + task + "_difference" + end);
  }
  return names;
}

}  // namespace hone::cli
