// What a folder holds of a run, read and sorted by kind: logs, results, models.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace hone {

// The JSON lines of one run of train.
struct RunLog {
  std::string name;
  std::vector<nlohmann::json> lines;  // objects with numbers `step` and `loss`
};

// Rows that eval (`loss` of a `model`) or bench (`repeat`) printed as json or jsonl.
struct ResultRows {
  std::string name;
  std::vector<nlohmann::json> rows;
};

struct ListedModel {
  std::string name, sha256;
  int64_t file_bytes = 0;
  bool checkpoint = false;
  int64_t layers = 0, dim = 0, context = 0;
  nlohmann::json lineage;  // io/lineage.h
};

struct RunFiles {
  std::vector<RunLog> logs;
  std::vector<ResultRows> scores, speeds;
  std::vector<ListedModel> models;
  std::vector<std::pair<std::string, std::string>> unused;  // name, and what it is instead

  bool empty() const { return logs.empty() && scores.empty() && speeds.empty() && models.empty(); }
};

// `paths` are files and folders; of a folder its files that end in .h5, .json and .jsonl are read, in the order of their
// names. What a name says nothing of is told by its content. A file of another kind is an error where it is named
// itself, and unused in a folder. Throws Error(input) with file and line for what is broken, and where nothing is left.
RunFiles read_run_files(const std::vector<std::string>& paths);

// The value of a number, NaN where there is none.
double number_of(const nlohmann::json& object, const char* name);

// The text, "" where there is none.
std::string text_of(const nlohmann::json& object, const char* name);

}  // namespace hone
