#include "train/fingerprint.h"

#include <algorithm>
#include <set>
#include <vector>

#include "base/error.h"
#include "base/stop.h"
#include "io/checksum.h"
#include "media/file_bytes.h"
#include "media/medium.h"

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

std::string fingerprint(const Examples& lines) {
  std::string all;
  for (const Example& example : lines.all) {
    for (const ExamplePart& part : example.parts)
      all += fmt::format("{}\t{}\t{}\n", part.medium ? place_of(*part.medium) + 1 : 0, part.index, part.value);
    all += fmt::format("{}\t{}\t{}\n", example.has_answer, example.weight, example.answer);
  }
  return checksum_of(all.data(), all.size());
}

std::string fingerprint_of_files(const Examples& lines) {
  std::string all;
  std::set<std::string> seen;
  for (const Example& example : lines.all)
    for (const ExamplePart& part : example.parts) {
      if (!part.medium || !seen.insert(part.value).second) continue;
      check_stop();
      try {
        const std::vector<uint8_t> bytes = media::read_bytes(part.value);
        all += checksum_of(bytes.data(), bytes.size());
      } catch (const Error&) {  // who reads it says so, or skips it
        all += "unreadable";
      }
      all += '\n';
    }
  return checksum_of(all.data(), all.size());
}

}  // namespace hone
