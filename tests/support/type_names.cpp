#include "support/type_names.h"

#include <cctype>

namespace hone::test {
namespace {

// What of a source text matters here: words ("::" among them, joined to their neighbours) and single other characters;
// neither comments, texts in quotes nor lines of the preprocessor.
std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  const auto is_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == ':'; };
  bool line_begins = true;
  for (size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (c == '\n') {
      line_begins = true;
      ++at;
    } else if (std::isspace(static_cast<unsigned char>(c))) {
      ++at;
    } else if (c == '#' && line_begins) {
      while (at < text.size() && text[at] != '\n') at += text[at] == '\\' ? 2 : 1;
    } else if (text.compare(at, 2, "//") == 0) {
      at = text.find('\n', at);
    } else if (text.compare(at, 2, "/*") == 0) {
      at = text.find("*/", at);
      at = at == std::string::npos ? at : at + 2;
    } else if (text.compare(at, 2, "R\"") == 0) {
      const size_t open = text.find('(', at);
      const std::string close = ")" + text.substr(at + 2, open - at - 2) + "\"";
      at = text.find(close, open);
      at = at == std::string::npos ? at : at + close.size();
    } else if (c == '"' || (c == '\'' && (at == 0 || !is_word(text[at - 1])))) {
      for (++at; at < text.size() && text[at] != c;) at += text[at] == '\\' ? 2 : 1;
      ++at;
    } else if (is_word(c)) {
      const size_t from = at;
      while (at < text.size() && (is_word(text[at]) || text[at] == '\'')) ++at;  // 1'000 is one number
      words.push_back(text.substr(from, at - from));
    } else {
      words.push_back(std::string(1, c));
      ++at;
    }
    if (c != '\n' && !std::isspace(static_cast<unsigned char>(c))) line_begins = false;
    if (at == std::string::npos) break;
  }
  return words;
}

struct Scope {
  std::string name;  // of a namespace: with those around it
  bool is_namespace = false;
};

}  // namespace

std::vector<std::string> type_names(const std::string& text) {
  std::vector<std::string> types;
  std::vector<Scope> scopes = {{"", true}};
  std::vector<std::string> statement;  // the words since the last ; { or }
  for (const std::string& word : words_of(text)) {
    if (word != "{" && word != "}" && word != ";") {
      statement.push_back(word);
      continue;
    }
    if (word == "}" && scopes.size() > 1) scopes.pop_back();
    if (word == "{") {
      const Scope& around = scopes.back();
      Scope inner;
      size_t first = 0;
      while (first < statement.size() && (statement[first] == "inline" || statement[first] == "typedef")) ++first;
      if (first < statement.size() && statement[first] == "namespace" && around.is_namespace) {
        inner.is_namespace = first + 1 < statement.size();  // what has no name is its file's own
        if (inner.is_namespace) inner.name = around.name + statement[first + 1] + "::";
      } else if (around.is_namespace) {
        int angles = 0;  // "template <class T>" defines no T
        for (size_t i = 0; i + 1 < statement.size(); ++i) {
          const std::string& keyword = statement[i];
          if (keyword == "<") ++angles;
          if (keyword == ">") --angles;
          if (keyword == "(" || keyword == "=") break;  // a function or a variable of a type that stands elsewhere
          if (angles != 0 || (keyword != "class" && keyword != "struct" && keyword != "union" && keyword != "enum"))
            continue;
          const std::string& next = statement[i + 1];
          if (next == "class" || next == "struct") continue;  // enum class
          const bool specialized = i + 2 < statement.size() && statement[i + 2] == "<";
          const bool returned = i + 2 < statement.size() && statement[i + 2] != ":" && statement[i + 2] != "final";
          if (next != ":" && !specialized && !returned) types.push_back(around.name + next);
          break;
        }
      }
      scopes.push_back(inner);
    }
    statement.clear();
  }
  return types;
}

}  // namespace hone::test
