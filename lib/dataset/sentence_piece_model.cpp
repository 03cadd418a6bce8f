#include "dataset/sentence_piece_model.h"

#include <algorithm>
#include <limits>
#include <queue>

#include "base/error.h"
#include "dataset/pieces/piece_model.h"
#include "dataset/utf8.h"

namespace hone {

using File = SentencePieceFile;

SentencePieceModel::SentencePieceModel(const File& file) : pieces_(file.pieces), byte_fallback_(file.byte_fallback) {
  std::fill(std::begin(bytes_), std::end(bytes_), -1);
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const File::Piece& piece = pieces_[i];
    const auto id = static_cast<int32_t>(i);
    if (piece.type == File::unknown) unknown_ = id;
    if (piece.type == File::byte) bytes_[byte_of_name(piece.text)] = id;
    if (piece.type != File::normal && piece.type != File::user_defined && piece.type != File::unused) continue;
    if (!ids_.emplace(piece.text, id).second)
      throw input_error("tokenizer.model: the piece '{}' is there twice", piece.text);
    longest_ = std::max(longest_, piece.text.size());
    if (piece.type == File::user_defined) users_.push_back(piece.text);
  }
  if (unknown_ < 0) throw input_error("tokenizer.model has no piece for what is unknown");
  if (byte_fallback_ && std::find(std::begin(bytes_), std::end(bytes_), -1) != std::end(bytes_))
    throw input_error("tokenizer.model falls back to bytes and lacks some of them");
  std::stable_sort(users_.begin(), users_.end(), [](auto a, auto b) { return a.size() > b.size(); });
}

size_t SentencePieceModel::user_defined(std::string_view text) const {
  for (const std::string_view user : users_)
    if (text.starts_with(user)) return user.size();
  return 0;
}

int32_t SentencePieceModel::matched(std::string_view text) const {
  const auto found = ids_.find(text);
  return found == ids_.end() ? -1 : found->second;
}

class SentencePieceModel::Writer {
 public:
  Writer(const SentencePieceModel& model, std::vector<int32_t>& out) : m_(model), out_(out) {}

  void add(std::string_view text, int32_t id) {
    const bool unknown = id < 0;
    if (!unknown)
      out_.push_back(id);
    else if (m_.byte_fallback_)
      for (const char c : text) out_.push_back(m_.bytes_[static_cast<unsigned char>(c)]);
    else if (!after_unknown_)
      out_.push_back(m_.unknown_);
    after_unknown_ = unknown;
  }

 private:
  const SentencePieceModel& m_;
  std::vector<int32_t>& out_;
  bool after_unknown_ = false;
};

namespace {

// Of all ways to cut a text into pieces, the one of the largest sum of scores. Sums are f32 and compared as they are
// there, so that what is nearly equal is decided alike.
class Unigram final : public SentencePieceModel {
 public:
  explicit Unigram(const File& file) : SentencePieceModel(file) {
    for (const File::Piece& p : pieces_)
      if (p.type == File::normal) {
        lowest_ = std::min(lowest_, p.score);
        highest_ = std::max(highest_, p.score);
      }
  }

  void append(std::string_view text, std::vector<int32_t>& out) const override {
    std::vector<Node> best(text.size() + 1);  // by end
    for (size_t begin = 0; begin < text.size();) {
      const size_t character = utf8_front(text.substr(begin)).length;
      const float before = best[begin].score;
      bool single = false;
      for (size_t end = begin; end < text.size() && end - begin < longest_;) {
        end += utf8_front(text.substr(end)).length;
        const size_t length = end - begin;
        const int32_t id = matched(text.substr(begin, length));
        if (id < 0 || piece(id).type == File::unused) continue;
        const double score = piece(id).type == File::user_defined ? static_cast<float>(length) * highest_ - 0.1
                                                                  : static_cast<double>(piece(id).score);
        offer(best[end], score + static_cast<double>(before), begin, id);
        single = single || length == character;
      }
      if (!single) offer(best[begin + character], static_cast<double>(lowest_ - penalty + before), begin, -1);
      begin += character;
    }
    std::vector<std::pair<size_t, int32_t>> path;  // begins and ids, the last first
    for (size_t end = text.size(); end > 0; end = path.back().first) path.emplace_back(best[end].begin, best[end].id);
    Writer writer(*this, out);
    for (size_t i = path.size(); i-- > 0;)
      writer.add(text.substr(path[i].first, (i > 0 ? path[i - 1].first : text.size()) - path[i].first), path[i].second);
  }

 private:
  struct Node {
    float score = 0;
    size_t begin = 0;
    int32_t id = -1;  // -1: unknown
    bool there = false;
  };
  static constexpr float penalty = 10;

  static void offer(Node& node, double score, size_t begin, int32_t id) {
    if (!node.there || score > static_cast<double>(node.score)) node = {static_cast<float>(score), begin, id, true};
  }

  float lowest_ = std::numeric_limits<float>::max(), highest_ = std::numeric_limits<float>::lowest();
};

// Neighbours that make a piece are joined, the piece of the highest score first, of equal ones the leftmost.
class BytePairs final : public SentencePieceModel {
 public:
  explicit BytePairs(const File& file) : SentencePieceModel(file) {}

  void append(std::string_view text, std::vector<int32_t>& out) const override {
    Joiner joiner(*this, text);
    joiner.run();
    Writer writer(*this, out);
    joiner.write(writer);
  }

 private:
  struct Symbol {
    size_t begin, size;  // size 0: joined to one before
    int32_t before, after;
    bool frozen;  // a user's piece joins with nothing
  };
  struct Pair {
    float score;
    int32_t left, right;
    size_t size;
    bool operator<(const Pair& other) const {  // the last in order is on top
      return score < other.score || (score == other.score && left > other.left);
    }
  };

  class Joiner {
   public:
    Joiner(const BytePairs& model, std::string_view text) : m_(model), text_(text) {
      for (size_t begin = 0; begin < text.size();) {
        const size_t user = m_.user_defined(text.substr(begin));
        const size_t size = user ? user : utf8_front(text.substr(begin)).length;
        const auto index = static_cast<int32_t>(symbols_.size());
        symbols_.push_back({begin, size, index - 1, index + 1, user > 0});
        begin += size;
      }
      if (!symbols_.empty()) symbols_.back().after = -1;
    }

    void run() {
      for (int32_t i = 1; i < static_cast<int32_t>(symbols_.size()); ++i) offer(i - 1, i);
      while (!pairs_.empty()) {
        const Pair pair = pairs_.top();
        pairs_.pop();
        Symbol &left = at(pair.left), &right = at(pair.right);
        if (left.size == 0 || right.size == 0 || left.size + right.size != pair.size) continue;  // joined elsewhere
        left.size = pair.size;
        left.after = right.after;
        if (right.after >= 0) at(right.after).before = pair.left;
        right.size = 0;
        offer(left.before, pair.left);
        offer(pair.left, left.after);
      }
    }

    void write(Writer& writer) const {
      for (int32_t i = symbols_.empty() ? -1 : 0; i >= 0; i = symbols_[static_cast<size_t>(i)].after)
        take(text_.substr(symbols_[static_cast<size_t>(i)].begin, symbols_[static_cast<size_t>(i)].size), writer);
    }

   private:
    Symbol& at(int32_t index) { return symbols_[static_cast<size_t>(index)]; }

    void offer(int32_t left, int32_t right) {
      if (left < 0 || right < 0 || at(left).frozen || at(right).frozen) return;
      const size_t size = at(left).size + at(right).size;
      if (size > m_.longest_) return;
      const std::string_view joined = text_.substr(at(left).begin, size);
      const int32_t id = m_.matched(joined);
      if (id < 0) return;
      pairs_.push({m_.piece(id).score, left, right, size});
      if (m_.piece(id).type == File::unused) parts_[joined] = at(left).size;
    }

    // A piece that is not used falls into what it was joined of.
    void take(std::string_view piece, Writer& writer) const {
      const int32_t id = m_.matched(piece);
      const auto parts = parts_.find(piece);
      if (id < 0 || m_.piece(id).type != File::unused || parts == parts_.end()) {
        writer.add(piece, id);
        return;
      }
      take(piece.substr(0, parts->second), writer);
      take(piece.substr(parts->second), writer);
    }

    const BytePairs& m_;
    std::string_view text_;
    std::vector<Symbol> symbols_;
    std::priority_queue<Pair> pairs_;
    std::unordered_map<std::string_view, size_t> parts_;  // of unused pieces: bytes of the left one
  };
};

}  // namespace

std::unique_ptr<const SentencePieceModel> make_sentence_piece_model(const File& file) {
  if (file.algorithm == File::bpe) return std::make_unique<BytePairs>(file);
  return std::make_unique<Unigram>(file);
}

}  // namespace hone
