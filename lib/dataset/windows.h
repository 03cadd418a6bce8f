// Windows for scoring a text: every token after the first is predicted exactly once.
#pragma once

#include <cstdint>
#include <vector>

namespace hone {

// Inputs are tokens [begin, begin+length), targets the tokens one later. The targets of positions first_scored …
// length-1 count; those before give context only, as an earlier window has scored them.
struct EvalWindow {
  int64_t begin, length, first_scored;
};

// Windows of at most `context` inputs, each `stride` further on, over a text of `tokens` tokens. stride == context does
// not overlap; a smaller stride gives each scored token at least context - stride tokens before it, at context/stride
// times the cost. None for a text of fewer than two tokens. Throws Error(usage) unless 1 <= stride <= context.
std::vector<EvalWindow> windows_for_eval(int64_t tokens, int64_t context, int64_t stride);

}  // namespace hone
