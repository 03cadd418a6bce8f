// Scores of each of several tasks: accuracy_NAME, and what compares it with a baseline.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "dataset/questions.h"
#include "report/metric.h"
#include "report/scores.h"

namespace hone::cli {

struct TaskScores {
  std::string name;
  Scores scores;  // a window a question
};

// `windows` are those of all answers, in the order of `taken`; a task of which no question was taken has no windows.
std::vector<TaskScores> scores_by_task(const std::vector<QuestionFile>& tasks, const Questions& taken,
                                       const Scores& windows);

// accuracy_NAME and accuracy_NAME_stderr, accuracy_mean (each task counts alike) and its standard error.
void add_tasks(MetricValues& values, std::span<const TaskScores> tasks);

// accuracy_NAME_difference and accuracy_mean_difference, with the ends of their paired 95% intervals (_low, _high): over
// the questions of a task as for all together, and for the mean of tasks from theirs, which are independent.
void add_task_differences(MetricValues& values, std::span<const TaskScores> model,
                          std::span<const TaskScores> baseline);

// All these names.
std::vector<std::string> task_metric_names(const std::vector<std::string>& tasks, bool baseline);

}  // namespace hone::cli
