// What the cases of `bench --kernels` share.
#pragma once

#include <cstdint>
#include <vector>

#include "bench/kernel_bench.h"

namespace hone::kernel_bench {

// Shapes are those of GPT-2's small model.
inline constexpr int64_t dim = 768, ffn = 3072, heads = 12, head_dim = 64;

Tensor random_tensor(Shape shape, DType type = DType::f32);  // numbers from -0.5 to 0.5

// Arrays that are read once in a run are made this large, so that no cache holds them until the next run.
int64_t large_bytes();

// Attention: forward, backward, decode of a cache in each of its codes, and the choice of blocks by content.
void add_attention_entries(std::vector<KernelEntry>& to);

// Products with packed weights, of each element, sparse or not, with few rows and with more.
void add_packed_entries(std::vector<KernelEntry>& to);

}  // namespace hone::kernel_bench
