#include "dataset/pieces/added_tokens.h"

#include <algorithm>

#include "dataset/pieces/characters.h"
#include "dataset/pieces/piece_model.h"
#include "dataset/utf8.h"

namespace hone {
namespace {

// The character that ends before `at`, and where it begins.
uint32_t character_before(std::string_view text, size_t at, size_t& begin) {
  begin = at - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xc0) == 0x80) --begin;
  return code_point(text.substr(begin, at - begin));
}

uint32_t character_at(std::string_view text, size_t at, size_t& end) {
  const size_t length = utf8_front(text.substr(at)).length;
  end = at + length;
  return code_point(text.substr(at, length));
}

bool within_word(std::string_view text, size_t begin, size_t end) {
  size_t unused;
  return (begin > 0 && is_word(character_before(text, begin, unused))) ||
         (end < text.size() && is_word(character_at(text, end, unused)));
}

}  // namespace

std::vector<AddedToken> read_added_tokens(const nlohmann::json& list) {
  std::vector<AddedToken> tokens;
  if (list.is_null()) return tokens;
  if (!list.is_array()) throw input_error("tokenizer.json: added_tokens is not a list");
  for (size_t i = 0; i < list.size(); ++i) {
    const TokenizerPart part(list[i], fmt::format("added_tokens[{}]", i));
    AddedToken token;
    token.content = part.text("content");
    const nlohmann::json& id = part.at("id");
    if (token.content.empty() || !id.is_number_unsigned() || id.get<uint64_t>() >= uint64_t{most_piece_tokens})
      throw input_error("{} has no content, or an id that is no number below {}", part.where(), most_piece_tokens);
    token.id = id.get<int32_t>();
    token.special = part.flag("special", false);
    token.single_word = part.flag("single_word", false);
    token.lstrip = part.flag("lstrip", false);
    token.rstrip = part.flag("rstrip", false);
    token.normalized = part.flag("normalized", !token.special);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

TokenFinder::TokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  for (size_t i = 0; i < tokens_.size(); ++i)
    if (!tokens_[i].content.empty()) by_first_[static_cast<unsigned char>(tokens_[i].content[0])].push_back(i);
  for (auto& list : by_first_)
    std::stable_sort(list.begin(), list.end(),
                     [&](size_t a, size_t b) { return tokens_[a].content.size() > tokens_[b].content.size(); });
}

std::vector<TokenFinder::Segment> TokenFinder::find(std::string_view text) const {
  std::vector<Segment> all;
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const AddedToken* found = nullptr;
    for (const size_t i : by_first_[static_cast<unsigned char>(text[at])])
      if (text.substr(at).starts_with(tokens_[i].content)) {
        found = &tokens_[i];
        break;
      }
    if (!found) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + found->content.size();
    at = end;
    if (found->single_word && within_word(text, begin, end)) continue;
    for (size_t next; found->lstrip && begin > done && is_white_space(character_before(text, begin, next));)
      begin = next;
    for (size_t next; found->rstrip && end < text.size() && is_white_space(character_at(text, end, next));) end = next;
    if (begin > done) all.push_back({done, begin, -1});
    all.push_back({begin, end, found->id});
    at = done = end;
  }
  if (done < text.size()) all.push_back({done, text.size(), -1});
  return all;
}

}  // namespace hone
