// The text that calibration measures on: windows and examples.
#include <algorithm>

#include "base/error.h"
#include "base/spelling.h"
#include "compress/calibration.h"
#include "media/medium.h"

namespace hone {

int64_t CalibrationText::rows() const {
  if (examples.empty()) return windows * length;
  int64_t sum = 0;
  for (const Sequence& example : examples) sum += example.size();
  return sum;
}

Input CalibrationText::input(int64_t window) const {
  if (!examples.empty()) return examples[static_cast<size_t>(window)].input();
  return std::span(ids).subspan(static_cast<size_t>(window * length), static_cast<size_t>(length));
}

std::vector<int32_t> CalibrationText::targets(int64_t window) const {
  if (!examples.empty()) return examples[static_cast<size_t>(window)].targets;
  const auto begin = ids.begin() + window * length;
  std::vector<int32_t> all(begin + 1, begin + length);
  all.push_back(-1);
  return all;
}

void CalibrationText::require_text(const char* who) const {
  if (!examples.empty())
    throw usage_error("{} measures windows of text, and the calibration has {}: give text", who,
                      either_of(media_words(&Medium::plural)));
}

CalibrationText calibration_examples(SequenceReader& reader, int64_t count) {
  CalibrationText result;
  const int64_t available = reader.size(), wanted = std::min(count, available);
  for (int64_t i = 0; i < wanted; ++i) {
    std::optional<Sequence> example = reader.read(i * available / wanted);
    if (!example) continue;
    result.length = std::max(result.length, example->size());
    result.examples.push_back(std::move(*example));
  }
  result.windows = static_cast<int64_t>(result.examples.size());
  if (result.windows == 0) throw input_error("{}: no example can be read", reader.examples().name());
  return result;
}

CalibrationText calibration_text(const Corpus& text, int64_t windows, int64_t length) {
  const int64_t available = text.size() / length;
  if (available < 1)
    throw input_error("'{}' has {}, less than one calibration window of {}; give more text or shorter windows",
                      text.name(), counted(text.size(), "token"), length);
  CalibrationText result{std::min(windows, available), length, {}};
  result.ids.resize(static_cast<size_t>(result.windows * length));
  for (int64_t w = 0; w < result.windows; ++w)
    text.copy(w * available / result.windows * length, length, result.ids.data() + w * length);
  return result;
}

CalibrationText held_out_text(const Corpus& text, int64_t windows, int64_t length, int64_t count) {
  const int64_t available = text.size() / length, taken = std::min(windows, available);
  std::vector<int64_t> rest;
  for (int64_t w = 0, next = 0; w < available; ++w) {
    if (next < taken && w == next * available / taken)
      ++next;
    else
      rest.push_back(w);
  }
  const auto left = static_cast<int64_t>(rest.size());
  CalibrationText result{std::min(count, left), length, {}};
  result.ids.resize(static_cast<size_t>(result.windows * length));
  for (int64_t w = 0; w < result.windows; ++w)
    text.copy(rest[static_cast<size_t>(w * left / result.windows)] * length, length, result.ids.data() + w * length);
  return result;
}

}  // namespace hone
