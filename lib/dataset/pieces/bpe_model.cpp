// Byte-pair encoding with a vocabulary and merges of strings (Sennrich et al. 2016), over characters or bytes.
#include <array>
#include <unordered_map>

#include "dataset/byte_letters.h"
#include "dataset/merger.h"
#include "dataset/pieces/piece_model.h"
#include "dataset/utf8.h"

namespace hone {
namespace {

class BpeModel final : public PieceModel {
 public:
  BpeModel(const TokenizerPart& part, bool byte_level) : byte_level_(byte_level), merges_(count_of_merges(part)) {
    for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (part.has(affix) && !part.text(affix).empty())
        throw input_error("{} is '{}', which is not understood", part.where(affix), part.text(affix));
    if (part.has("dropout") && part.at("dropout") != 0)
      throw input_error("{} would make tokens by chance", part.where("dropout"));
    fallback_ = part.flag("byte_fallback", false);
    fuse_unknown_ = part.flag("fuse_unk", false);
    whole_first_ = part.flag("ignore_merges", false);
    read_vocabulary(part);
    if (part.has("unk_token")) unknown_ = id_of(part.text("unk_token"));
    read_merges(part);
    for (int b = 0; b < 256; ++b) {
      names_[static_cast<size_t>(b)] = id_of(name_of_byte(b));
      const std::string one(1, static_cast<char>(b));
      bytes_[static_cast<size_t>(b)] = id_of(byte_level_ ? letters_of_bytes(one) : one);
    }
  }

  std::unique_ptr<PieceEncoder> encoder() const override;
  const std::vector<std::string>& texts() const override { return texts_; }

 private:
  friend class BpeModelEncoder;

  static size_t count_of_merges(const TokenizerPart& part) {
    if (!part.at("merges").is_array()) throw input_error("{} is not a list", part.where("merges"));
    return part.at("merges").size();
  }

  int32_t id_of(const std::string& text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? -1 : found->second;
  }

  void read_vocabulary(const TokenizerPart& part) {
    const nlohmann::json& vocabulary = part.at("vocab");
    if (!vocabulary.is_object()) throw input_error("{} is not an object", part.where("vocab"));
    for (const auto& [text, value] : vocabulary.items()) {
      if (!value.is_number_unsigned() || value.get<uint64_t>() >= static_cast<uint64_t>(most_piece_tokens))
        throw input_error("{}: the id of '{}' is no number below {}", part.where("vocab"), text, most_piece_tokens);
      const auto id = value.get<int32_t>();
      ids_[text] = id;
      if (texts_.size() <= static_cast<size_t>(id)) texts_.resize(static_cast<size_t>(id) + 1);
      const auto bytes = byte_level_ ? bytes_of_letters(text) : std::optional(text);
      texts_[static_cast<size_t>(id)] = bytes.value_or(text);  // no letters of bytes: a token that is only added
    }
  }

  // ["a b", …] or [["a", "b"], …]
  void read_merges(const TokenizerPart& part) {
    const nlohmann::json& merges = part.at("merges");
    for (size_t rank = 0; rank < merges.size(); ++rank) {
      const nlohmann::json& merge = merges[rank];
      std::string left, right;
      if (merge.is_string()) {
        const std::string text = merge.get<std::string>();
        const size_t space = text.find(' ');
        if (space != text.npos && text.find(' ', space + 1) == text.npos)
          left = text.substr(0, space), right = text.substr(space + 1);
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        left = merge[0].get<std::string>(), right = merge[1].get<std::string>();
      }
      const int32_t a = id_of(left), b = id_of(right), made = id_of(left + right);
      if (left.empty() || right.empty() || a < 0 || b < 0 || made < 0)
        throw input_error("{}[{}] is no pair of tokens that make one of the vocabulary", part.where("merges"), rank);
      made_.push_back(made);
      if (!merges_.insert(a, b, static_cast<int32_t>(rank)))
        throw input_error("{}[{}] repeats a pair", part.where("merges"), rank);
    }
  }

  bool byte_level_, fallback_ = false, fuse_unknown_ = false, whole_first_ = false;
  PairTable merges_;           // pair -> rank
  std::vector<int32_t> made_;  // by rank
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<std::string> texts_;
  int32_t unknown_ = -1;
  std::array<int32_t, 256> names_{}, bytes_{};  // tokens "<0x0A>", and of single bytes; -1: none
};

class BpeModelEncoder final : public PieceEncoder {
 public:
  explicit BpeModelEncoder(const BpeModel& model) : m_(model), merger_(model.merges_, model.made_) {}

  void append(std::string_view piece, std::vector<int32_t>& out) override {
    if (piece.size() > most_cached_bytes) {
      encode(piece);
      out.insert(out.end(), ids_.begin(), ids_.end());
      return;
    }
    key_.assign(piece);
    auto found = cache_.find(key_);
    if (found == cache_.end()) {
      encode(piece);
      if (cache_.size() >= most_cached_pieces) cache_.clear();
      found = cache_.emplace(key_, ids_).first;
    }
    out.insert(out.end(), found->second.begin(), found->second.end());
  }

 private:
  static constexpr size_t most_cached_bytes = 32, most_cached_pieces = 1 << 16;

  void encode(std::string_view piece) {
    ids_.clear();
    if (m_.whole_first_)
      if (const int32_t id = m_.id_of(m_.byte_level_ ? letters_of_bytes(piece) : std::string(piece)); id >= 0) {
        ids_.push_back(id);
        return;
      }
    last_unknown_ = false;
    while (!piece.empty()) {
      const Utf8Front front = utf8_front(piece);
      const bool character = !m_.byte_level_ && front.kind == Utf8Front::valid;
      const size_t length = character ? front.length : 1;
      start(piece.substr(0, length));
      piece.remove_prefix(length);
    }
    merger_.run(ids_);
  }

  // One character, or one byte.
  void start(std::string_view symbol) {
    const int32_t id =
        m_.byte_level_ ? m_.bytes_[static_cast<unsigned char>(symbol[0])] : m_.id_of(std::string(symbol));
    if (id >= 0) {
      ids_.push_back(id);
      last_unknown_ = false;
      return;
    }
    if (m_.fallback_) {
      const auto named = [&](char c) { return m_.names_[static_cast<unsigned char>(c)]; };
      if (std::all_of(symbol.begin(), symbol.end(), [&](char c) { return named(c) >= 0; })) {
        for (const char c : symbol) ids_.push_back(named(c));
        last_unknown_ = false;
        return;
      }
    }
    if (m_.unknown_ < 0) return;  // as the first implementation has it: nothing
    if (!m_.fuse_unknown_ || !last_unknown_) ids_.push_back(m_.unknown_);
    last_unknown_ = true;
  }

  const BpeModel& m_;
  Merger merger_;
  std::unordered_map<std::string, std::vector<int32_t>> cache_;
  std::string key_;
  std::vector<int32_t> ids_;
  bool last_unknown_ = false;
};

std::unique_ptr<PieceEncoder> BpeModel::encoder() const {
  return std::make_unique<BpeModelEncoder>(*this);
}

}  // namespace

std::unique_ptr<const PieceModel> make_bpe_model(const TokenizerPart& part, bool byte_level) {
  return std::make_unique<BpeModel>(part, byte_level);
}

}  // namespace hone
