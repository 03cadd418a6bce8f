// What makes the patterns of the table in pattern.cpp: a kind, a file, a line there.
#pragma once

#include "nn/attention/pattern.h"

namespace hone {

struct AttentionNumbers {
  std::string name;  // as the user wrote it, for messages
  std::vector<int64_t> values;
  int64_t at(size_t i, int64_t otherwise) const { return i < values.size() ? values[i] : otherwise; }
};

std::shared_ptr<const AttentionPattern> full_attention(const AttentionNumbers& numbers);
std::shared_ptr<const AttentionPattern> window_attention(const AttentionNumbers& numbers);
std::shared_ptr<const AttentionPattern> routed_attention(const AttentionNumbers& numbers);

}  // namespace hone
