#include "serve/stop_text.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace hone {

StopText::StopText(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_)
    if (stop.empty()) throw usage_error("a text to stop at must not be empty");
}

std::string StopText::push(std::string_view text) {
  if (found_) return {};
  held_ += text;
  size_t first = std::string::npos;
  for (const std::string& stop : stops_) first = std::min(first, held_.find(stop));
  if (first != std::string::npos) {
    found_ = true;
    return std::exchange(held_, {}).substr(0, first);
  }
  size_t keep = 0;  // the longest end that is the beginning of a stop string
  for (const std::string& stop : stops_)
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n)
      if (std::string_view(held_).ends_with(std::string_view(stop).substr(0, n))) keep = n;
  std::string certain = held_.substr(0, held_.size() - keep);
  held_.erase(0, certain.size());
  return certain;
}

std::string StopText::finish() {
  return found_ ? std::string() : std::exchange(held_, {});
}

}  // namespace hone
