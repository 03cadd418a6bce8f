// The columns of the tools' CSV reports, in order: the same whatever models, options and texts a run has.
#pragma once

#include <string>
#include <vector>

namespace hone::cli {

// For Report::fix_csv(). Where a row has no value its cell is empty.
std::vector<std::string> eval_columns();
std::vector<std::string> bench_columns();         // of models, trained or not
std::vector<std::string> bench_kernel_columns();  // of bench --kernels
std::vector<std::string> prune_columns();
std::vector<std::string> quantize_columns();
std::vector<std::string> difference_columns();  // of inspect with two files

}  // namespace hone::cli
