// The memory that work will surely take, from shapes alone: refused before it begins where there is less.
#pragma once

#include <string>

#include "kernels/attention/cache_code.h"
#include "measure/activations.h"
#include "model/division.h"
#include "tensor/tensor.h"

namespace hone {

// In bytes. What is left out is smaller, or may be shared or freed in time.
struct Footprint {
  double parameters = 0, optimizer = 0, activations = 0, cache = 0;
  double copies = 0;   // of parameters: the best so far, averages
  double teacher = 0;  // its weights and what it computes
  double total() const { return parameters + optimizer + activations + copies + teacher + cache; }
  Footprint times(double n) const {  // of so many processes
    return {n * parameters, n * optimizer, n * activations, n * cache, n * copies, n * teacher};
  }
};

std::string describe(const Footprint& footprint);  // "1.24 GB: 171 MB of parameters, 512 MB of …"

// Steps of training: masters, bf16 copies for the products, what passes keep, and `optimizer_bytes` of gradients and of
// what the optimizer keeps; of this one of the ranks. Activations are those of an even load of experts.
Footprint training_footprint(const Config& config, const TrainingShape& shape, double optimizer_bytes,
                             const ModelRanks& ranks = {});

// `batch` sequences of up to `capacity` tokens, at most `rows` of each at a time. The weights may be mapped from a file
// and do not count.
Footprint generation_footprint(const Config& config, int64_t batch, int64_t capacity, int64_t rows, DType type,
                               kernels::CacheCode code = kernels::CacheCode::none);

// `tokens` of text on their way through the blocks, all at once between two of them, and what the weights become.
Footprint calibration_footprint(const Config& config, int64_t tokens, DType type, double weight_bytes);

// What the process has already counts as part of it. Throws Error(usage) with the largest part, the memory there is,
// and `help`: what makes it less.
void require_memory_for(const Footprint& footprint, const std::string& what, const std::string& help);

}  // namespace hone
