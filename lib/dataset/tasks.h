// Published tasks of questions: their files as they are, each line a question. docs/tasks.md says how each is put.
#pragma once

#include <string>
#include <vector>

#include "dataset/questions.h"

namespace hone {

// "hellaswag", "piqa", …: what read_task() takes.
std::vector<std::string> task_names();

// The questions of a task's file, or of all .jsonl files of a folder in the order of their names. PIQA's labels are
// read from the file beside it (train.jsonl, train-labels.lst) where the lines have none; LAMBADA's .txt files have a
// text a line. Throws Error(input) with file and line where a member is missing or of another kind, Error(usage) for a
// task that is not known.
QuestionFile read_task(const std::string& name, const std::string& path);

}  // namespace hone
