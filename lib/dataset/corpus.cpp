#include "dataset/corpus.h"

#include <algorithm>
#include <array>
#include <exception>
#include <span>

#include "base/error.h"
#include "base/spelling.h"
#include "base/stop.h"
#include "kernels/parallel.h"

namespace hone {

class Corpus::Tokens {
 public:
  Tokens(std::shared_ptr<const Tokenizer> the_tokenizer, std::vector<bool> the_records)
      : tokenizer(std::move(the_tokenizer)), records(std::move(the_records)) {}
  virtual ~Tokens() = default;
  virtual int64_t size() const = 0;
  virtual void copy(int64_t begin, int64_t count, int32_t* out) const = 0;
  virtual int64_t bytes(int64_t begin, int64_t count) const = 0;

  const std::shared_ptr<const Tokenizer> tokenizer;
  const std::vector<bool> records;  // by document of the readers; none: plain
};

namespace {

std::vector<bool> records_of(const std::vector<TextSource>& sources) {
  std::vector<bool> records;
  for (const TextSource& source : sources) records.insert(records.end(), source.documents.size(), source.records);
  return records;
}

// Where a text is cut: behind blank lines.
class BlankLines {
 public:
  // Whether a document begins with this token.
  bool ended_before(std::string_view token) {
    const bool blank = lines_ >= 2 && !token.empty() && token.front() != '\n' && token.front() != '\r';
    for (const char c : token) lines_ = c == '\n' ? lines_ + 1 : c == '\r' ? lines_ : 0;
    return blank;
  }
  void forget() { lines_ = 0; }

 private:
  int lines_ = 0;  // ends of lines behind one another
};

// Tokens that are the bytes of the text, where they lie.
class ByteTokens final : public Corpus::Tokens {
 public:
  ByteTokens(std::vector<TextSource> sources, std::shared_ptr<const Tokenizer> the_tokenizer)
      : Tokens(std::move(the_tokenizer), records_of(sources)), sources_(std::move(sources)) {
    for (const auto& source : sources_) {
      for (const auto& document : source.documents) {
        if (!documents_.empty()) ++size_;  // the separator before it
        documents_.push_back({size_, document});
        size_ += static_cast<int64_t>(document.size());
      }
    }
  }

  int64_t size() const override { return size_; }
  int64_t bytes(int64_t, int64_t count) const override { return count; }

  void copy(int64_t begin, int64_t count, int32_t* out) const override {
    const int64_t end = begin + count;
    auto document = std::upper_bound(documents_.begin(), documents_.end(), begin,
                                     [](int64_t at, const Document& d) { return at < d.begin; });
    --document;  // the one that holds `begin`, or the separator behind it
    while (begin < end) {
      const auto size = static_cast<int64_t>(document->text.size());
      const int64_t from = begin - document->begin, until = std::min(end - document->begin, size);
      const auto* text = reinterpret_cast<const unsigned char*>(document->text.data());
      for (int64_t i = from; i < until; ++i) *out++ = text[i];
      begin = document->begin + until;
      if (begin < end) {
        *out++ = document_separator;
        ++begin;
        ++document;
      }
    }
  }

 private:
  struct Document {
    int64_t begin;  // its first token
    std::string_view text;
  };
  std::vector<TextSource> sources_;
  std::vector<Document> documents_;
  int64_t size_ = 0;
};

// Tokens in memory.
template <class Id>
class StoredTokens final : public Corpus::Tokens {
 public:
  StoredTokens(std::vector<Id> ids, std::shared_ptr<const Tokenizer> the_tokenizer, std::vector<bool> the_records)
      : Tokens(std::move(the_tokenizer), std::move(the_records)), ids_(std::move(ids)) {
    for (int32_t id = 0; id < tokenizer->vocabulary(); ++id)
      lengths_.push_back(static_cast<int32_t>(tokenizer->bytes_of(id)));
  }

  int64_t size() const override { return static_cast<int64_t>(ids_.size()); }
  void copy(int64_t begin, int64_t count, int32_t* out) const override {
    std::copy_n(ids_.begin() + begin, count, out);
  }
  int64_t bytes(int64_t begin, int64_t count) const override {
    int64_t sum = 0;
    for (int64_t i = begin; i < begin + count; ++i) sum += lengths_[ids_[static_cast<size_t>(i)]];
    return sum;
  }

 private:
  std::vector<Id> ids_;
  std::vector<int32_t> lengths_;  // in bytes, by id
};

// What one thread tokenizes at a time: a part of a long document, or several short documents.
struct Task {
  struct Piece {
    std::string_view text;
    bool starts_document;
  };
  std::vector<Piece> pieces;
  size_t bytes = 0;
};

constexpr size_t task_bytes = 1 << 20;

// Long documents are cut where that does not change their tokens, so the tasks do not show in the result.
std::vector<Task> tasks_of(const std::vector<TextSource>& sources, const Tokenizer& tokenizer) {
  std::vector<Task> tasks(1);
  for (const auto& source : sources) {
    for (std::string_view rest : source.documents) {
      for (bool first = true; !rest.empty(); first = false) {
        if (tasks.back().bytes >= task_bytes) tasks.emplace_back();
        Task& task = tasks.back();
        const size_t room = task_bytes - task.bytes;
        const size_t end = rest.size() <= room ? rest.size() : tokenizer.cut(rest, room);
        task.pieces.push_back({rest.substr(0, end), first});
        task.bytes += end;
        rest.remove_prefix(end);
      }
    }
  }
  return tasks;
}

template <class Id>
std::vector<Id> tokenize(const std::vector<TextSource>& sources, const Tokenizer& tokenizer) {
  const std::vector<Task> tasks = tasks_of(sources, tokenizer);
  std::vector<std::vector<Id>> parts(tasks.size());
  std::vector<std::exception_ptr> failures(tasks.size());
  kernels::parallel_each(static_cast<int64_t>(tasks.size()), [&](int64_t t) {
    const auto i = static_cast<size_t>(t);
    try {
      check_stop();
      const auto encoder = tokenizer.encoder();
      std::vector<int32_t> ids;
      for (const auto& piece : tasks[i].pieces) {
        if (piece.starts_document && (i > 0 || &piece != &tasks[i].pieces.front()))
          ids.push_back(tokenizer.separator());
        encoder->append(piece.text, ids);
      }
      parts[i].assign(ids.begin(), ids.end());
    } catch (...) {
      failures[i] = std::current_exception();
    }
  });
  for (const auto& failure : failures)
    if (failure) std::rethrow_exception(failure);
  size_t total = 0;
  for (const auto& part : parts) total += part.size();
  std::vector<Id> all;
  all.reserve(total);
  for (auto& part : parts) {
    all.insert(all.end(), part.begin(), part.end());
    std::vector<Id>().swap(part);
  }
  return all;
}

}  // namespace

Corpus::Corpus(std::shared_ptr<const Tokens> tokens, std::string name)
    : tokens_(std::move(tokens)), name_(std::move(name)), count_(tokens_->size()) {}

const Tokenizer& Corpus::tokenizer() const {
  return *tokens_->tokenizer;
}

void Corpus::check(int64_t begin, int64_t count) const {
  if (begin < 0 || count < 0 || begin > count_ || count > count_ - begin)
    throw internal_error("tokens {} + {} are outside of {}, which has {}", begin, count, name_, count_);
}

void Corpus::copy(int64_t begin, int64_t count, int32_t* out) const {
  check(begin, count);
  if (count) tokens_->copy(begin_ + begin, count, out);
}

int64_t Corpus::bytes(int64_t begin, int64_t count) const {
  check(begin, count);
  return tokens_->bytes(begin_ + begin, count);
}

Corpus Corpus::slice(int64_t begin, int64_t count) const {
  check(begin, count);
  Corpus part = *this;
  part.begin_ += begin;
  part.count_ = count;
  return part;
}

std::vector<int64_t> Corpus::document_starts() const {
  constexpr int64_t part = 1 << 16;
  const int64_t end = begin_ + count_;
  std::vector<int64_t> starts = {0};
  std::vector<int32_t> ids(static_cast<size_t>(std::min(part, end)));
  BlankLines blank;
  size_t document = 0;  // of the readers
  for (int64_t first = 0; first < end; first += part) {
    check_stop();
    const int64_t count = std::min(part, end - first);
    tokens_->copy(first, count, ids.data());
    for (int64_t i = 0; i < count; ++i) {
      const int32_t id = ids[static_cast<size_t>(i)];
      int64_t start = -1;
      if (id == tokens_->tokenizer->separator()) {
        ++document;
        blank.forget();
        start = first + i + 1;
      } else if ((document >= tokens_->records.size() || !tokens_->records[document]) &&
                 blank.ended_before(tokens_->tokenizer->text_of(id))) {
        start = first + i;
      }
      if (start > begin_ && start < end) starts.push_back(start - begin_);
    }
  }
  return starts;
}

void Corpus::name_parts(std::pair<Corpus, Corpus>& parts, double valid_fraction) {
  parts.first.name_ += fmt::format(" (the first {:.4g}%)", 100 * (1 - valid_fraction));
  parts.second.name_ += fmt::format(" (the last {:.4g}%)", 100 * valid_fraction);
}

Corpus open_corpus(std::vector<TextSource> sources, std::shared_ptr<const Tokenizer> tokenizer) {
  if (sources.empty()) throw usage_error("no text file is given");
  std::string name = name_of(sources);
  std::shared_ptr<const Corpus::Tokens> tokens;
  if (tokenizer->ids_are_bytes()) {
    tokens = std::make_shared<const ByteTokens>(std::move(sources), std::move(tokenizer));
  } else if (tokenizer->vocabulary() <= 65536) {
    auto ids = tokenize<uint16_t>(sources, *tokenizer);
    tokens = std::make_shared<const StoredTokens<uint16_t>>(std::move(ids), std::move(tokenizer), records_of(sources));
  } else {
    auto ids = tokenize<int32_t>(sources, *tokenizer);
    tokens = std::make_shared<const StoredTokens<int32_t>>(std::move(ids), std::move(tokenizer), records_of(sources));
  }
  return Corpus(std::move(tokens), std::move(name));
}

Corpus open_corpus(const std::vector<std::string>& paths, std::shared_ptr<const Tokenizer> tokenizer) {
  return open_corpus(open_texts(paths), std::move(tokenizer));
}

Corpus corpus_of(std::vector<int32_t> ids, std::shared_ptr<const Tokenizer> tokenizer, std::string name) {
  return Corpus(
      std::make_shared<const StoredTokens<int32_t>>(std::move(ids), std::move(tokenizer), std::vector<bool>()),
      std::move(name));
}

std::pair<Corpus, Corpus> split_corpus(const Corpus& corpus, double valid_fraction) {
  const int64_t train = training_part(corpus.size(), valid_fraction);
  std::pair parts(corpus.slice(0, train), corpus.slice(train, corpus.size() - train));
  Corpus::name_parts(parts, valid_fraction);
  return parts;
}

std::pair<Corpus, Corpus> open_split_corpus(std::vector<TextSource> sources, std::shared_ptr<const Tokenizer> tokenizer,
                                            double valid_fraction) {
  if (tokenizer->ids_are_bytes())
    return split_corpus(open_corpus(std::move(sources), std::move(tokenizer)), valid_fraction);
  auto [first, last] = split_texts(sources, valid_fraction);
  const std::string name = name_of(sources);
  if (first.empty() || last.empty())
    throw input_error("{} is too short to validate on {:.4g}% of it", name, 100 * valid_fraction);
  std::pair parts(open_corpus(std::move(first), tokenizer), open_corpus(std::move(last), tokenizer));
  parts.first.name_ = parts.second.name_ = name;
  Corpus::name_parts(parts, valid_fraction);
  return parts;
}

void require_window(const Corpus& corpus, int64_t context) {
  if (corpus.size() > context) return;
  throw input_error("{} has {} ({}), and a window of context {} needs {}: use more text or a smaller context",
                    corpus.name(), counted(corpus.size(), "token"), corpus.tokenizer().name(), context, context + 1);
}

}  // namespace hone
