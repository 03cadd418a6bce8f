// Learning the merges of a byte-pair encoding.
#include <algorithm>
#include <exception>
#include <mutex>
#include <queue>
#include <unordered_map>

#include "base/error.h"
#include "base/stop.h"
#include "dataset/bpe.h"
#include "dataset/pair_table.h"
#include "dataset/pretokenizer.h"
#include "kernels/parallel.h"

namespace hone {
namespace {

constexpr size_t part_bytes = 1 << 20;
constexpr int64_t min_count = 2;  // a pair that occurs once teaches nothing

using WordCounts = std::unordered_map<std::string_view, int64_t>;

// Parts of about part_bytes that can be cut into words independently; an even selection of them when there is too much
// text.
std::vector<std::string_view> parts_of(std::span<const std::string_view> texts, int64_t sample_bytes) {
  std::vector<std::string_view> parts;
  size_t total = 0;
  for (std::string_view text : texts) {
    total += text.size();
    while (!text.empty()) {
      const size_t end = text.size() <= part_bytes ? text.size() : Pretokenizer::cut(text, part_bytes);
      parts.push_back(text.substr(0, end));
      text.remove_prefix(end);
    }
  }
  const auto wanted = static_cast<size_t>(std::max<int64_t>(sample_bytes, 1));
  if (total <= wanted) return parts;
  std::vector<std::string_view> chosen;
  size_t seen = 0, taken = 0;
  for (const std::string_view part : parts) {
    seen += part.size();
    if (static_cast<double>(taken) * static_cast<double>(total) <
        static_cast<double>(seen) * static_cast<double>(wanted)) {
      chosen.push_back(part);
      taken += part.size();
    }
  }
  return chosen;
}

void count_words(std::string_view text, Pretokenizer& pretokenizer, WordCounts& counts) {
  pretokenizer.each(text, [&](std::string_view word) {
    // A piece without end (a file without spaces) is counted in parts: tokens are never longer than that.
    for (; word.size() > bpe_max_token_bytes; word.remove_prefix(bpe_max_token_bytes))
      ++counts[word.substr(0, bpe_max_token_bytes)];
    ++counts[word];
  });
}

// Sums do not depend on the order of addition, nor do the merges on the order of the words: any number of threads gives
// the same.
WordCounts count_words(const std::vector<std::string_view>& parts) {
  WordCounts total;
  std::mutex mutex;
  std::exception_ptr failure;
  kernels::parallel_for(static_cast<int64_t>(parts.size()), 1, [&](int64_t begin, int64_t end) {
    try {
      Pretokenizer pretokenizer;
      WordCounts counts;
      for (int64_t i = begin; i < end; check_stop(), ++i)
        count_words(parts[static_cast<size_t>(i)], pretokenizer, counts);
      const std::lock_guard lock(mutex);
      if (total.empty()) total.swap(counts);
      for (const auto& [word, count] : counts) total[word] += count;
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
    }
  });
  if (failure) std::rethrow_exception(failure);
  return total;
}

class Learner {
 public:
  explicit Learner(const WordCounts& counts) {
    for (const auto& [text, count] : counts) {
      if (text.size() < 2) continue;
      words_.push_back({ids_.size(), text.size(), count});
      for (const char c : text) ids_.push_back(static_cast<unsigned char>(c));
    }
    for (size_t w = 0; w < words_.size(); check_stop(), ++w)
      for (size_t i = 0; i + 1 < words_[w].length; ++i) add(id(w, i), id(w, i + 1), w);
    for (const auto& [key, pair] : pairs_) heap_.push({pair.count, key});
    created_.clear();
  }

  std::vector<Merge> learn(size_t wanted) {
    std::vector<Merge> merges;
    while (merges.size() < wanted && !heap_.empty()) {
      check_stop();
      const Best best = heap_.top();
      heap_.pop();
      const auto found = pairs_.find(best.key);
      if (found->second.count != best.count) {  // counts only fall after they were pushed
        if (found->second.count >= min_count)
          heap_.push({found->second.count, best.key});
        else
          pairs_.erase(found);
        continue;
      }
      if (best.count < min_count) break;
      const Merge merge{static_cast<int32_t>(best.key >> 32), static_cast<int32_t>(best.key & 0xffffffffu)};
      const std::vector<uint32_t> places = std::move(found->second.words);
      for (const uint32_t word : places) apply(merge, static_cast<int32_t>(256 + merges.size()), word);
      pairs_.erase(best.key);
      for (const uint64_t key : created_) heap_.push({pairs_.find(key)->second.count, key});
      created_.clear();
      merges.push_back(merge);
    }
    return merges;
  }

 private:
  struct Word {
    size_t start, length;  // in ids_
    int64_t count;
  };
  struct Pair {
    int64_t count = 0;
    std::vector<uint32_t> words;  // that it was in at some time
  };
  struct Best {
    int64_t count;
    uint64_t key;
    bool operator<(const Best& other) const { return count != other.count ? count < other.count : key > other.key; }
  };
  struct Hash {
    size_t operator()(uint64_t key) const { return mix64(key); }
  };

  int32_t& id(size_t word, size_t i) { return ids_[words_[word].start + i]; }

  void add(int32_t left, int32_t right, size_t word) {
    const auto [found, is_new] = pairs_.try_emplace(pair_key(left, right));
    if (is_new) created_.push_back(found->first);
    Pair& pair = found->second;
    pair.count += words_[word].count;
    if (pair.words.empty() || pair.words.back() != word) pair.words.push_back(static_cast<uint32_t>(word));
  }

  void remove(int32_t left, int32_t right, size_t word) {
    const auto found = pairs_.find(pair_key(left, right));
    if (found != pairs_.end()) found->second.count -= words_[word].count;  // absent: fell below min_count before
  }

  // Replaces the pair by `made` from left to right through one word; only pairs beside a replacement change.
  void apply(const Merge& merge, int32_t made, size_t word) {
    const size_t length = words_[word].length;
    size_t kept = 0;
    for (size_t i = 0; i < length; ++i) {
      if (i + 1 == length || id(word, i) != merge.first || id(word, i + 1) != merge.second) {
        id(word, kept++) = id(word, i);
        continue;
      }
      if (kept > 0) {
        remove(id(word, kept - 1), merge.first, word);
        add(id(word, kept - 1), made, word);
      }
      if (i + 2 < length) {
        remove(merge.second, id(word, i + 2), word);
        add(made, id(word, i + 2), word);
      }
      id(word, kept++) = made;
      ++i;
    }
    words_[word].length = kept;
  }

  std::vector<int32_t> ids_;  // of all words, end to end
  std::vector<Word> words_;
  std::unordered_map<uint64_t, Pair, Hash> pairs_;
  std::priority_queue<Best> heap_;  // each pair once; its count is corrected when it comes up
  std::vector<uint64_t> created_;   // pairs that are not in the heap yet
};

}  // namespace

std::vector<Merge> learn_merges(std::span<const std::string_view> texts, const BpeOptions& options) {
  if (options.vocabulary < 256 || options.vocabulary > bpe_max_vocabulary)
    throw usage_error("a vocabulary of {} is not between 256 and {}", options.vocabulary, bpe_max_vocabulary);
  const WordCounts counts = count_words(parts_of(texts, options.sample_bytes));
  return Learner(counts).learn(static_cast<size_t>(options.vocabulary - 256));
}

}  // namespace hone
