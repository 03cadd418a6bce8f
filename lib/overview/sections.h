// The parts of the page, each HTML, or "" where the files have nothing for it.
#pragma once

#include <string>

#include "overview/inputs.h"

namespace hone {

std::string glance_section(const RunFiles& files);   // the smallest model beside the first, in large numbers
std::string scores_section(const RunFiles& files);   // tables of models with differences, and size over loss
std::string curves_section(const RunFiles& files);   // of logs
std::string experts_section(const RunFiles& files);  // their load, of scored models and at the end of runs
std::string speeds_section(const RunFiles& files);   // tables of bench, and rates and attention over length
std::string lineage_section(const RunFiles& files);

// Rows of eval that may be compared: scored on the same text in the same way. The first is what the others are compared
// with: the baseline, else the model that the fewest stages made.
struct Comparable {
  std::string protocol;  // "test.txt, context 256, stride 256, tokenizer bytes, precision bf16"
  std::vector<nlohmann::json> rows;
};
std::vector<Comparable> comparable_scores(const RunFiles& files);

// "train → prune 60.0% → train → quantize int8", "" where the model is not among the files.
std::string stages_of(const RunFiles& files, const nlohmann::json& row);

}  // namespace hone
