#include "report/late_texts.h"

#include "base/error.h"
#include "base/text_output.h"

namespace hone {

bool LateTexts::write(const std::string& option, const std::string& path, const std::string& text) {
  if (path.empty()) return true;
  try {
    const std::string written = TextOutput::checked_before(path, force_).write(text);
    if (written == path) return true;
    lacks(option, fmt::format("'{}' cannot be replaced by now; '{}' has what was to be written there", path, written));
    return true;
  } catch (const Error& error) {
    lacks(option, error.what());
    return false;
  }
}

void LateTexts::saved(const std::string& wanted, const std::string& path) {
  if (path != wanted) add(fmt::format("'{}' cannot be replaced by now; the model is in '{}'", wanted, path));
}

int LateTexts::status() const {
  if (!missing_.empty()) throw input_error("{}; all else is done", missing_);
  return 0;
}

void LateTexts::lacks(const std::string& option, const std::string& reason) {
  if (!reason.empty()) add(fmt::format("{}: {}", option, reason));
}

void LateTexts::add(const std::string& sentence) {
  missing_ += (missing_.empty() ? "" : "; ") + sentence;
}

std::vector<NamedPath> named(const std::string& option, const std::vector<std::string>& paths) {
  std::vector<NamedPath> result;
  for (const std::string& path : paths) result.emplace_back(option, path);
  return result;
}

}  // namespace hone
