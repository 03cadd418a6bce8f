#include "train/fingerprint.h"

#include <algorithm>
#include <vector>

#include "base/stop.h"
#include "io/checksum.h"

namespace hone {

std::string fingerprint(const Corpus& text) {
  constexpr int64_t part = 1 << 20;
  std::vector<int32_t> ids(static_cast<size_t>(std::min(part, text.size())));
  std::string all;
  for (int64_t begin = 0; begin < text.size(); begin += part) {
    check_stop();
    const int64_t count = std::min(part, text.size() - begin);
    text.copy(begin, count, ids.data());
    all += checksum_of(ids.data(), static_cast<size_t>(count) * sizeof(int32_t));
  }
  return checksum_of(all.data(), all.size());
}

}  // namespace hone
