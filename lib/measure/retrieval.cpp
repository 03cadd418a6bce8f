#include "measure/retrieval.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "base/spelling.h"
#include "base/stop.h"
#include "ops/contrastive.h"

namespace hone {
namespace {

constexpr int64_t rows_at_once = 4096;

// Images, or sounds, each once.
struct Gallery {
  std::map<std::string, int64_t> places;  // by the name of the file
  std::vector<std::string> answers;
  std::vector<std::set<int64_t>> partners;  // of each in the other gallery
  std::vector<float> units;                 // [all, dim]

  int64_t size() const { return static_cast<int64_t>(answers.size()); }
};

// Parts that wait to go through the model, each a sequence of its own.
class Encoding {
 public:
  Encoding(const Transformer& model, DType type) : model_(model), type_(type) {}

  void add(const Sequence& sequence, const MediaPart& part, Gallery& gallery) {
    const int64_t count = part.rows(), row = rows_.input().size();
    rows_.add(sequence.input(), part.row, count);
    spans_.push_back({static_cast<int64_t>(spans_.size()), 0, count});
    parts_.push_back({row, count});
    into_.push_back(&gallery);
    if (row + count >= rows_at_once) flush();
  }

  void flush() {
    if (spans_.empty()) return;
    const Input input = rows_.input();
    const Tensor hidden = model_.hidden(input, model_.call(input, std::move(spans_), type_)).value();
    const Tensor units = ops::pooled(hidden, parts_);
    const int64_t dim = units.dim(1);
    for (size_t i = 0; i < parts_.size(); ++i) {
      const float* const unit = units.data<float>() + static_cast<int64_t>(i) * dim;
      into_[i]->units.insert(into_[i]->units.end(), unit, unit + dim);
    }
    rows_.clear();
    spans_.clear();
    parts_.clear();
    into_.clear();
  }

 private:
  const Transformer& model_;
  DType type_;
  JoinedInput rows_;
  std::vector<Span> spans_;
  std::vector<ops::PooledRows> parts_;
  std::vector<Gallery*> into_;
};

// Of each of `queries` with each of `all`.
Tensor similarities(const Gallery& queries, const Gallery& all) {
  const Tensor s = Tensor::empty({queries.size(), all.size()});
  const size_t dim = queries.units.size() / static_cast<size_t>(queries.size());
  for (int64_t q = 0; q < queries.size(); ++q) {
    check_stop();
    for (int64_t i = 0; i < all.size(); ++i) {
      const float *const a = queries.units.data() + static_cast<size_t>(q) * dim, *const b =
                                                                                      all.units.data() +
                                                                                      static_cast<size_t>(i) * dim;
      float sum = 0;
      for (size_t c = 0; c < dim; ++c) sum += a[c] * b[c];
      s.data<float>()[q * all.size() + i] = sum;
    }
  }
  return s;
}

RetrievalScores::Direction direction(const Gallery& queries, const Gallery& all, bool classes) {
  const Tensor s = similarities(queries, all);
  RetrievalScores::Direction found;
  found.exact =
      recall_of(s, [&](int64_t q, int64_t i) { return queries.partners[static_cast<size_t>(q)].contains(i); });
  if (classes)
    found.by_class = recall_of(s, [&](int64_t q, int64_t i) {
      return queries.answers[static_cast<size_t>(q)] == all.answers[static_cast<size_t>(i)];
    });
  return found;
}

}  // namespace

RecallScores recall_of(const Tensor& similarity, const std::function<bool(int64_t, int64_t)>& right) {
  RecallScores scores;
  scores.queries = similarity.dim(0);
  const int64_t all = similarity.dim(1);
  std::vector<int64_t> ranks;
  for (int64_t q = 0; q < scores.queries; ++q) {
    const float* const row = similarity.data<float>() + q * all;
    float nearest = -2;  // below every cosine
    for (int64_t i = 0; i < all; ++i)
      if (right(q, i)) nearest = std::max(nearest, row[i]);
    int64_t rank = 1;
    for (int64_t i = 0; i < all; ++i) rank += row[i] >= nearest && !right(q, i);
    ranks.push_back(rank);
  }
  for (size_t k = 0; k < recall_ranks.size(); ++k)
    scores.recall[k] =
        static_cast<double>(std::ranges::count_if(ranks, [&](int64_t rank) { return rank <= recall_ranks[k]; })) /
        static_cast<double>(scores.queries);
  std::ranges::sort(ranks);
  const size_t middle = ranks.size() / 2;
  scores.median_rank = ranks.size() % 2 ? static_cast<double>(ranks[middle])
                                        : static_cast<double>(ranks[middle - 1] + ranks[middle]) / 2;
  return scores;
}

RetrievalScores retrieve(const Transformer& model, SequenceReader& reader, size_t left, size_t right, DType type,
                         const std::function<void(int64_t, int64_t)>& progress) {
  const NoTape pause;
  RetrievalScores scores;
  scores.classes = true;
  Gallery lefts, rights;
  Encoding encoding(model, type);
  const std::vector<Example>& examples = reader.examples().all;
  const std::string left_name = model.encoders()[left]->kind().medium().name,
                    right_name = model.encoders()[right]->kind().medium().name;
  for (int64_t e = 0; e < reader.size(); ++e) {
    check_stop();
    const Example& example = examples[static_cast<size_t>(e)];
    if (!example.has(left_name) || !example.has(right_name)) continue;
    const std::optional<Sequence> sequence = reader.read(e);
    if (!sequence) continue;
    const auto place_of = [&](const std::string& medium, size_t encoder, Gallery& gallery) {
      const auto named = [&](const ExamplePart& part) { return part.kind() == medium; };
      const std::string name = std::ranges::find_if(example.parts, named)->name();
      const auto [found, fresh] = gallery.places.emplace(name, gallery.size());
      if (fresh) {
        gallery.answers.push_back(example.answer);
        gallery.partners.emplace_back();
        encoding.add(*sequence, *sequence->first_of(encoder), gallery);
      }
      return found->second;
    };
    const int64_t l = place_of(left_name, left, lefts), r = place_of(right_name, right, rights);
    lefts.partners[static_cast<size_t>(l)].insert(r);
    rights.partners[static_cast<size_t>(r)].insert(l);
    scores.classes = scores.classes && example.has_answer;
    ++scores.pairs;
    if (progress) progress(e + 1, reader.size());
  }
  encoding.flush();
  if (lefts.size() < 2 || rights.size() < 2)
    throw input_error(
        "{}: {} with both, {} and {}, which have {} of the one and {} of the other; two of each "
        "are needed to find one among them",
        reader.examples().name(), counted(scores.pairs, "example"), left_name, right_name, lefts.size(), rights.size());
  scores.to_right = direction(lefts, rights, scores.classes);
  scores.to_left = direction(rights, lefts, scores.classes);
  return scores;
}

namespace {

std::string metric(const char* prefix, const char* name, const std::string& from, const std::string& to) {
  return fmt::format("{}{}_{}_to_{}", prefix, name, from, to);
}

std::string recall_at(size_t k) {
  return fmt::format("recall_at_{}", recall_ranks[k]);
}

}  // namespace

std::vector<std::string> retrieval_metrics(const std::string& left, const std::string& right) {
  std::vector<std::string> names = {"pairs"};
  for (const char* prefix : {"", "class_"})
    for (const auto& [from, to] : {std::pair(left, right), std::pair(right, left)}) {
      for (size_t k = 0; k < recall_ranks.size(); ++k) names.push_back(metric(prefix, recall_at(k).c_str(), from, to));
      names.push_back(metric(prefix, "median_rank", from, to));
    }
  return names;
}

void add_retrieval(const RetrievalScores& scores, const std::string& left, const std::string& right,
                   MetricValues& values) {
  const auto add = [&](const char* prefix, const RecallScores& of, const std::string& from, const std::string& to) {
    for (size_t k = 0; k < recall_ranks.size(); ++k)
      values[metric(prefix, recall_at(k).c_str(), from, to)] = of.recall[k];
    values[metric(prefix, "median_rank", from, to)] = of.median_rank;
  };
  values["pairs"] = static_cast<double>(scores.pairs);
  add("", scores.to_right.exact, left, right);
  add("", scores.to_left.exact, right, left);
  if (!scores.classes) return;
  add("class_", scores.to_right.by_class, left, right);
  add("class_", scores.to_left.by_class, right, left);
}

}  // namespace hone
