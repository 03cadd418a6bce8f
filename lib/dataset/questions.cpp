#include "dataset/questions.h"

#include <algorithm>

#include "base/error.h"

namespace hone {

Questions open_questions(const std::vector<TextSource>& sources, std::shared_ptr<const Tokenizer> tokenizer,
                         int64_t context, int64_t limit) {
  std::vector<int32_t> ids;
  std::vector<EvalWindow> windows;
  int64_t shortened = 0;
  bool last_shortened = false;
  const auto full = [&] { return limit > 0 && static_cast<int64_t>(ids.size()) > limit && windows.size() > 1; };
  for (const TextSource& source : sources)
    for (size_t d = 0; d < source.documents.size() && !full(); ++d) {
      const std::string_view document = source.documents[d];
      const size_t cut = d < source.answers.size() ? source.answers[d] : document.size();
      if (cut == 0 || cut == document.size())
        throw input_error("{}: document {} has no {}; answers are scored of lines with \"prompt\" and \"answer\"",
                          source.name, d + 1, cut == 0 ? "prompt" : "answer");
      const auto begin = static_cast<int64_t>(ids.size());
      tokenizer->encoder()->append(document.substr(0, cut), ids);
      const auto answer = static_cast<int64_t>(ids.size());
      tokenizer->encoder()->append(document.substr(cut), ids);
      const int64_t end = static_cast<int64_t>(ids.size()), length = std::min(end - 1 - begin, context);
      if (end - answer > length)
        throw input_error("{}: the answer of document {} has {} tokens, more than the context of {}", source.name,
                          d + 1, end - answer, context);
      const int64_t first = end - 1 - length;
      windows.push_back({first, length, answer - 1 - first});
      last_shortened = first > begin;
      shortened += last_shortened;
    }
  if (full()) {
    ids.resize(static_cast<size_t>(windows.back().begin));
    windows.pop_back();
    shortened -= last_shortened;
  }
  return {corpus_of(std::move(ids), std::move(tokenizer), name_of(sources)), std::move(windows), shortened};
}

}  // namespace hone
