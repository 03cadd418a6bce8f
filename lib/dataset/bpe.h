// Byte-level byte-pair encoding (Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units",
// on bytes as in GPT-2): tokens 0 to 255 are the bytes, token 256 + i is the i-th merge of two earlier tokens.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "dataset/tokenizer.h"

namespace hone {

constexpr int32_t bpe_max_vocabulary = 1 << 20;
constexpr size_t bpe_max_token_bytes = 256;

using Merge = std::pair<int32_t, int32_t>;

// Throws Error(input) when a merge names a token that is not there before it, repeats, or makes a token longer than
// bpe_max_token_bytes.
std::shared_ptr<const Tokenizer> make_bpe(std::vector<Merge> merges);

// {"kind": "bpe", "pretokenizer": "gpt2", "merges": [[left, right], …]}. Throws Error(input).
std::shared_ptr<const Tokenizer> bpe_from_json(const nlohmann::json& json);

struct BpeOptions {
  int32_t vocabulary = 4096;  // bytes included; fewer come out when no pair occurs twice any more (a warning says so)
  int64_t sample_bytes = 256LL << 20;  // of longer texts, evenly spaced parts of this many bytes in all are counted
};

// Merges the most frequent pair again and again; of equally frequent ones the one with the smaller ids. Words are
// counted once each and pairs kept with the words they are in, so a merge costs only what it changes.
std::shared_ptr<const Tokenizer> train_bpe(std::span<const std::string_view> texts, const BpeOptions& options);

// The merges alone.
std::vector<Merge> learn_merges(std::span<const std::string_view> texts, const BpeOptions& options);

}  // namespace hone
