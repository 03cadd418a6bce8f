#include "report/late_texts.h"

#include "base/error.h"
#include "base/log.h"
#include "base/text_output.h"

namespace hone {

bool LateTexts::write(const std::string& option, const std::string& path, const std::string& text) {
  if (path.empty()) return true;
  try {
    const std::string written = TextOutput::checked_before(path, force_).write(text);
    if (written == path) return true;
    status_ = static_cast<int>(ErrorKind::input);
    log_warning("{}: '{}' cannot be replaced by now; '{}' has what was to be written there", option, path, written);
    return true;
  } catch (const Error& error) {
    status_ = static_cast<int>(ErrorKind::input);
    log_warning("{}: {}", option, error.what());
    return false;
  }
}

void LateTexts::saved(const std::string& wanted, const std::string& path) {
  if (path == wanted) return;
  status_ = static_cast<int>(ErrorKind::input);
  log_warning("'{}' cannot be replaced by now; the model is in '{}'", wanted, path);
}

std::vector<NamedPath> named(const std::string& option, const std::vector<std::string>& paths) {
  std::vector<NamedPath> result;
  for (const std::string& path : paths) result.emplace_back(option, path);
  return result;
}

}  // namespace hone
