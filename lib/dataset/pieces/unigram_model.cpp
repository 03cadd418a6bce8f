// The unigram language model of SentencePiece (Kudo, arXiv 1804.10959): of all ways to cut a piece into tokens, the one
// of the largest sum of scores.
#include <cmath>
#include <map>
#include <unordered_map>

#include "dataset/pieces/piece_model.h"
#include "dataset/utf8.h"

namespace hone {
namespace {

class UnigramModel final : public PieceModel {
 public:
  UnigramModel(const TokenizerPart& part, bool byte_level) {
    if (byte_level) throw input_error("{}: a unigram model of bytes is not understood", part.where());
    const nlohmann::json& vocabulary = part.at("vocab");
    if (!vocabulary.is_array() || vocabulary.empty() || vocabulary.size() > static_cast<size_t>(most_piece_tokens))
      throw input_error("{} is not a list of tokens", part.where("vocab"));
    for (size_t id = 0; id < vocabulary.size(); ++id) {
      const nlohmann::json& entry = vocabulary[id];
      if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number())
        throw input_error("{}[{}] is no token with a score", part.where("vocab"), id);
      texts_.push_back(entry[0].get<std::string>());
      scores_.push_back(entry[1].get<double>());
      lowest_ = std::min(lowest_, scores_.back());
      longest_ = std::max(longest_, texts_.back().size());
      ids_[texts_.back()] = static_cast<int32_t>(id);
    }
    if (part.has("unk_id")) {
      if (!part.at("unk_id").is_number_unsigned() || part.at("unk_id").get<uint64_t>() >= texts_.size())
        throw input_error("{} is no token", part.where("unk_id"));
      unknown_ = part.at("unk_id").get<int32_t>();
    }
    fallback_ = part.flag("byte_fallback", false);
  }

  std::unique_ptr<PieceEncoder> encoder() const override;
  const std::vector<std::string>& texts() const override { return texts_; }

 private:
  friend class UnigramEncoder;
  int32_t id_of(const std::string& text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? -1 : found->second;
  }

  std::vector<std::string> texts_;
  std::vector<double> scores_;
  double lowest_ = 0;
  size_t longest_ = 0;
  std::unordered_map<std::string, int32_t> ids_;
  int32_t unknown_ = -1;
  bool fallback_ = false;
};

class UnigramEncoder final : public PieceEncoder {
 public:
  explicit UnigramEncoder(const UnigramModel& model) : m_(model) {}

  void append(std::string_view piece, std::vector<int32_t>& out) override {
    if (piece.empty()) return;
    find_best(piece);
    std::vector<std::pair<std::string_view, int32_t>> path;  // last first
    for (size_t end = piece.size(); end > 0;) {
      const Node& node = best_[end];
      path.emplace_back(piece.substr(node.begin, end - node.begin), node.id);
      end = node.begin;
    }
    std::string unknown;  // what follows one another is one
    for (size_t i = path.size(); i-- > 0;) {
      if (path[i].second < 0) {
        unknown += path[i].first;
        continue;
      }
      flush(unknown, out);
      out.push_back(path[i].second);
    }
    flush(unknown, out);
  }

 private:
  struct Node {
    double score = 0;
    size_t begin = 0;
    int32_t id = -1;  // -1: unknown
    bool there = false;
  };

  static constexpr double unknown_penalty = 10;

  void find_best(std::string_view piece) {
    best_.assign(piece.size() + 1, {});
    std::string key;
    for (size_t begin = 0; begin < piece.size();) {
      const double before = best_[begin].score;
      const size_t character = utf8_front(piece.substr(begin)).length;
      bool single = false;
      key.clear();
      for (size_t end = begin; end < piece.size() && end - begin < m_.longest_;) {
        const size_t length = utf8_front(piece.substr(end)).length;
        key += piece.substr(end, length);
        end += length;
        const int32_t id = m_.id_of(key);
        if (id < 0) continue;
        offer(end, before + m_.scores_[static_cast<size_t>(id)], begin, id);
        single = single || end - begin == character;
      }
      if (!single) offer(begin + character, before + m_.lowest_ - unknown_penalty, begin, -1);
      begin += character;
    }
  }

  void offer(size_t end, double score, size_t begin, int32_t id) {
    Node& node = best_[end];
    if (!node.there || score > node.score) node = {score, begin, id, true};
  }

  void flush(std::string& unknown, std::vector<int32_t>& out) {
    if (unknown.empty()) return;
    const size_t before = out.size();
    bool known = m_.fallback_;
    for (const char c : unknown) {
      const int32_t id = known ? m_.id_of(name_of_byte(static_cast<unsigned char>(c))) : -1;
      known = known && id >= 0;
      if (known) out.push_back(id);
    }
    unknown.clear();
    if (known) return;
    out.resize(before);
    if (m_.unknown_ < 0)
      throw input_error("the tokenizer has no token for a character of the text, nor for unknown ones");
    out.push_back(m_.unknown_);
  }

  const UnigramModel& m_;
  std::vector<Node> best_;  // by end
};

std::unique_ptr<PieceEncoder> UnigramModel::encoder() const {
  return std::make_unique<UnigramEncoder>(*this);
}

}  // namespace

std::unique_ptr<const PieceModel> make_unigram_model(const TokenizerPart& part, bool byte_level) {
  return std::make_unique<UnigramModel>(part, byte_level);
}

}  // namespace hone
