// Requests that come at times of their own, whoever is ready for them (an open loop): of a trace, or drawn.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hone {

constexpr int64_t trace_block = 512;  // tokens that an id of a trace stands for

struct Arrival {
  double seconds = 0;                // after the first one's trace began
  int64_t prompt = 1, tokens = 1;    // of the prompt, and to be written
  std::vector<int64_t> blocks = {};  // names of the prompt's parts: equal ones are equal text; none: a text of its own
  int64_t number = 0;                // its line in the trace, or its place among those that were drawn; from 1
};

// Lengths from `low` to `high`, each as probable.
struct LengthRange {
  int64_t low = 1, high = 1;
};

// A trace in the form of Mooncake's (Qin et al. 2024, arXiv 2407.00079): a JSON object a line with "timestamp" in
// milliseconds, "input_length" and "output_length" in tokens, and maybe "hash_ids", one for each 512 tokens of the
// input. All lengths are divided by `divide`, rounded up. At most `count` requests; 0: all. Throws Error(input) with
// the line for what is none: times that run backwards, or on for more than a year, lengths below 1, ids that are not as
// many as the blocks.
std::vector<Arrival> read_trace(const std::string& path, int64_t divide, int64_t count);

// `count` requests whose gaps are exponential with the mean 1 / rate. Other rates give the same requests in other time.
std::vector<Arrival> poisson_arrivals(double rate, int64_t count, LengthRange prompt, LengthRange tokens,
                                      uint64_t seed);

// The tokens of its prompt, below `vocabulary` and no separators: of `divide`d blocks where it has them.
std::vector<int32_t> prompt_of(const Arrival& arrival, int64_t divide, int64_t vocabulary, uint64_t seed);

}  // namespace hone
