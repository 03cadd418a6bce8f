// Lengths of training windows over a run: short ones first (Li et al., "The Stability-Efficiency Dilemma", arXiv
// 2108.06084). A batch has the same number of tokens at every length, so that a part of the steps is the same part of
// the tokens, and rates follow both.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hone {

struct CurriculumStage {
  int64_t from = 0;     // first step
  int64_t context = 0;  // tokens of a window

  bool operator==(const CurriculumStage&) const = default;
};

// For batches of `tokens` tokens in a run of `steps` steps whose validation and last stage have windows of `context`:
//
//   "64:20%,128:30%,256"  windows of 64 in the first 20% of the steps, of 128 in the next 30%, then of 256
//   "linear:64:256"       a line from 64 at the first step to 256 at the last, by the lengths that divide `tokens`
//   ""                    one stage of `context`
//
// A form is a row of the table in curriculum.cpp. Stages without a step are left out. Throws Error(usage) for another
// text, lengths that fall, exceed the context, do not divide `tokens` or do not end at the context, and parts of more
// than 100% together.
std::vector<CurriculumStage> curriculum_stages(const std::string& text, int64_t tokens, int64_t context, int64_t steps);

std::string curriculum_forms();  // for help texts: "LENGTH:PART,…,CONTEXT, as in …; or linear:FROM:CONTEXT"

// The stage of a step, by its place in the list.
size_t stage_of(const std::vector<CurriculumStage>& stages, int64_t step);

std::string describe(const std::vector<CurriculumStage>& stages);  // "windows of 64, from step 400 of 128, …"

}  // namespace hone
