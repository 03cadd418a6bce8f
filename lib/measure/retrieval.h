// Finding an image by a sound and a sound by an image: which of all stand nearest to each other in a model.
#pragma once

#include <array>
#include <functional>
#include <string>

#include "feed/sequence.h"
#include "model/transformer.h"
#include "report/metric.h"

namespace hone {

inline constexpr std::array<int64_t, 3> recall_ranks = {1, 5, 10};

// Of queries in one direction. The rank of a query is one more than how many wrong ones stand before its nearest right
// one; of wrong ones that stand as near as that, all count as before it.
struct RecallScores {
  int64_t queries = 0;
  std::array<double, recall_ranks.size()> recall = {};  // part of the queries whose rank is at most that
  double median_rank = 0;
};

struct RetrievalScores {
  int64_t pairs = 0;  // examples with both
  // Right is what stands in one example with the query; or whatever has the query's answer.
  struct Direction {
    RecallScores exact, by_class;
  } to_right, to_left;
  bool classes = false;  // every example has an answer: by_class is set
};

// similarity [queries, all]; right(q, i): whether i is right for q, which something is for each.
RecallScores recall_of(const Tensor& similarity, const std::function<bool(int64_t query, int64_t other)>& right);

// Of the first part of each of the two encoders in every example that has both. Each image and sound counts once, though
// it stand in several examples, and is read alone. Throws Error(input) for less than two of either, and as the reader.
RetrievalScores retrieve(const Transformer& model, SequenceReader& reader, size_t left, size_t right, DType type,
                         const std::function<void(int64_t done, int64_t all)>& progress = {});

// "pairs"; and "recall_at_1_image_to_audio", "median_rank_image_to_audio", "class_recall_at_1_image_to_audio", … for both
// ways between two media.
std::vector<std::string> retrieval_metrics(const std::string& left, const std::string& right);
// Those of class_… only where there are classes.
void add_retrieval(const RetrievalScores& scores, const std::string& left, const std::string& right,
                   MetricValues& values);

}  // namespace hone
