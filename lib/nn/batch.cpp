#include "nn/batch.h"

#include <algorithm>

#include "base/error.h"
#include "ops/mixture.h"

namespace hone {

Batch::Batch(std::vector<Span> spans) : spans_(std::move(spans)) {
  for (const Span& span : spans_) {
    if (span.count < 1 || span.first < 0 || span.sequence < 0 || span.first + span.count > INT32_MAX)
      throw internal_error("a batch with {} tokens of sequence {} from position {} on", span.count, span.sequence,
                           span.first);
    int64_t free = 0;
    for (const RowRange& range : span.together) {
      if (range.first < free || range.count < 1 || range.first + range.count > span.count)
        throw internal_error("rows {} to {} of a span of {} see each other", range.first, range.first + range.count - 1,
                             span.count);
      free = range.first + range.count;
    }
    for (int64_t t = 0; t < span.count; ++t) positions_.push_back(static_cast<int32_t>(span.first + t));
    end_ = std::max(end_, span.first + span.count);
  }
}

Batch::Batch(std::vector<Span> spans, const Batch& of, std::span<const int32_t> rows) : Batch(std::move(spans)) {
  if (rows.size() != positions_.size())
    throw internal_error("{} rows of another batch for {}", rows.size(), positions_.size());
  std::vector<int32_t> kinds;
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto row = static_cast<size_t>(rows[i]);
    positions_[i] = of.positions_[row];
    if (of.by_kind_) kinds.push_back(of.kinds_[row]);
  }
  if (of.by_kind_) set_kinds(std::move(kinds), of.kind_count_);
}

void Batch::set_kinds(std::vector<int32_t> kinds, int64_t count) {
  if (kinds.size() != positions_.size()) throw internal_error("{} kinds of {} rows", kinds.size(), positions_.size());
  by_kind_ = ops::plan_of_rows(kinds, count);
  kinds_ = std::move(kinds);
  kind_count_ = count;
}

Batch Batch::whole(int64_t sequences, int64_t length) {
  std::vector<Span> spans;
  for (int64_t s = 0; s < sequences; ++s) spans.push_back({s, 0, length});
  return Batch(std::move(spans));
}

std::vector<Batch::Group> Batch::groups() const {
  std::vector<Group> groups;
  int64_t row = 0;
  for (size_t begin = 0; begin < spans_.size();) {
    size_t end = begin + 1;
    while (end < spans_.size() && spans_[end].count == spans_[begin].count &&
           spans_[end].phase == spans_[begin].phase && spans_[end].together == spans_[begin].together)
      ++end;
    groups.push_back({std::span(spans_).subspan(begin, end - begin), row, spans_[begin].count, spans_[begin].phase});
    row += static_cast<int64_t>(end - begin) * spans_[begin].count;
    begin = end;
  }
  return groups;
}

}  // namespace hone
