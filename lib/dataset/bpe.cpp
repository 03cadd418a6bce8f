#include "dataset/bpe.h"

#include <algorithm>
#include <unordered_map>

#include "base/error.h"
#include "base/log.h"
#include "dataset/merger.h"
#include "dataset/pretokenizer.h"

namespace hone {
namespace {

class BpeEncoder final : public Encoder {
 public:
  explicit BpeEncoder(const PairTable& merges) : merger_(merges) {}

  void append(std::string_view text, std::vector<int32_t>& out) override {
    pretokenizer_.each(text, [&](std::string_view word) { append_word(word, out); });
  }

 private:
  static constexpr size_t max_cached_bytes = 32;
  static constexpr size_t max_cached_words = 1 << 16;

  void append_word(std::string_view word, std::vector<int32_t>& out) {
    if (word.size() > max_cached_bytes) {
      merge(word);
      out.insert(out.end(), ids_.begin(), ids_.end());
      return;
    }
    key_.assign(word);
    auto found = cache_.find(key_);
    if (found == cache_.end()) {
      merge(word);
      if (cache_.size() >= max_cached_words) cache_.clear();
      found = cache_.emplace(key_, ids_).first;
    }
    out.insert(out.end(), found->second.begin(), found->second.end());
  }

  void merge(std::string_view word) {
    ids_.clear();
    for (const char c : word) ids_.push_back(static_cast<unsigned char>(c));
    merger_.run(ids_);
  }

  Pretokenizer pretokenizer_;
  Merger merger_;
  std::unordered_map<std::string, std::vector<int32_t>> cache_;
  std::string key_;  // reused, so that a look-up takes no memory
  std::vector<int32_t> ids_;
};

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(std::vector<Merge> merges) : merges_(std::move(merges)), table_(merges_.size()) {
    if (merges_.size() > static_cast<size_t>(bpe_max_vocabulary - 256))
      throw input_error("the tokenizer has {} merges; at most {} are supported", merges_.size(),
                        bpe_max_vocabulary - 256);
    starts_.reserve(merges_.size() + 257);
    for (int i = 0; i < 256; ++i) {
      starts_.push_back(static_cast<uint32_t>(i));
      text_ += static_cast<char>(i);
    }
    starts_.push_back(256);
    for (const auto& [left, right] : merges_) add(left, right);
  }

  int32_t vocabulary() const override { return static_cast<int32_t>(starts_.size() - 1); }

  std::string_view text_of(int32_t id) const override {
    if (id < 0 || id >= vocabulary()) return {};
    const auto i = static_cast<size_t>(id);
    return std::string_view(text_).substr(starts_[i], starts_[i + 1] - starts_[i]);
  }

  std::unique_ptr<Encoder> encoder() const override { return std::make_unique<BpeEncoder>(table_); }
  std::string name() const override { return fmt::format("bpe:{}", vocabulary()); }
  nlohmann::json to_json() const override { return {{"kind", "bpe"}, {"pretokenizer", "gpt2"}, {"merges", merges_}}; }
  size_t cut(std::string_view text, size_t from) const override { return Pretokenizer::cut(text, from); }

 private:
  void add(int32_t left, int32_t right) {
    const int32_t id = vocabulary();
    if (left < 0 || left >= id || right < 0 || right >= id)
      throw input_error(
          "the tokenizer's merge {} joins tokens {} and {}, but only 0 to {} exist at that point: the model file is "
          "damaged",
          id - 256, left, right, id - 1);
    const std::string joined = std::string(text_of(left)) + std::string(text_of(right));
    if (joined.size() > bpe_max_token_bytes)
      throw input_error("the tokenizer's token {} is longer than {} bytes: the model file is damaged", id,
                        bpe_max_token_bytes);
    if (!table_.insert(left, right, id))
      throw input_error("the tokenizer's merge {} repeats the pair of tokens {} and {}: the model file is damaged",
                        id - 256, left, right);
    text_ += joined;
    starts_.push_back(static_cast<uint32_t>(text_.size()));
  }

  std::vector<Merge> merges_;
  PairTable table_;
  std::string text_;              // of all tokens, end to end
  std::vector<uint32_t> starts_;  // token i is text_[starts_[i], starts_[i+1])
};

}  // namespace

std::shared_ptr<const Tokenizer> make_bpe(std::vector<Merge> merges) {
  return std::make_shared<const BpeTokenizer>(std::move(merges));
}

std::shared_ptr<const Tokenizer> bpe_from_json(const nlohmann::json& json) {
  const auto pretokenizer = json.find("pretokenizer");
  if (pretokenizer == json.end() || *pretokenizer != "gpt2")
    throw input_error(
        "the tokenizer's \"pretokenizer\" is not \"gpt2\": the model file is damaged or from a newer version");
  const auto list = json.find("merges");
  if (list == json.end() || !list->is_array())
    throw input_error("the tokenizer has no list of \"merges\": the model file is damaged");
  std::vector<Merge> merges;
  merges.reserve(list->size());
  // Ids that do not fit 32 bits become -1, which no merge may name.
  const auto id = [](const nlohmann::json& value) {
    if (!value.is_number_integer()) return -1;
    if (value.is_number_unsigned() && value.get<uint64_t>() > INT32_MAX) return -1;
    const auto number = value.get<int64_t>();
    return number >= 0 && number <= INT32_MAX ? static_cast<int32_t>(number) : -1;
  };
  for (const auto& pair : *list) {
    if (!pair.is_array() || pair.size() != 2)
      throw input_error("the tokenizer's merge {} is not a pair of tokens: the model file is damaged", merges.size());
    merges.emplace_back(id(pair[0]), id(pair[1]));
  }
  return make_bpe(std::move(merges));
}

std::shared_ptr<const Tokenizer> train_bpe(std::span<const std::string_view> texts, const BpeOptions& options) {
  auto tokenizer = make_bpe(learn_merges(texts, options));
  if (tokenizer->vocabulary() < options.vocabulary)
    log_warning("the text has pairs for a vocabulary of {} only, not {}: the tokenizer is {}", tokenizer->vocabulary(),
                options.vocabulary, tokenizer->name());
  return tokenizer;
}

}  // namespace hone
