#include "dataset/windows.h"

#include <algorithm>

#include "base/error.h"

namespace hone {

std::vector<EvalWindow> windows_for_eval(int64_t tokens, int64_t context, int64_t stride) {
  if (context < 1 || stride < 1 || stride > context)
    throw usage_error("a stride of {} is not between 1 and the context, {}", stride, context);
  std::vector<EvalWindow> windows;
  const int64_t predicted = tokens - 1;
  int64_t scored = 0;  // targets that earlier windows have scored
  for (int64_t begin = 0; scored < predicted; begin += stride) {
    const int64_t end = begin + std::min(context, predicted - begin);
    windows.push_back({begin, end - begin, scored - begin});
    scored = end;
  }
  return windows;
}

}  // namespace hone
