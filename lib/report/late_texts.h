// Reports and plots that a tool writes when its work is done. What fails there is a warning and exit status 3: what is
// finished is not thrown away.
#pragma once

#include <string>
#include <vector>

#include "base/target.h"

namespace hone {

class LateTexts {
 public:
  explicit LateTexts(bool force) : force_(force) {}

  // Writes `text` to `path`, which require_text_writable() let pass before the work. Where it exists by now, the text
  // goes beside it. False where it is nowhere. An empty path writes nothing.
  bool write(const std::string& option, const std::string& path, const std::string& text);
  // Says where a model is that could not have the path it was made for.
  void saved(const std::string& wanted, const std::string& path);

  int status() const { return status_; }  // 0, or 3 where something is missing or not where it was wanted

 private:
  bool force_;
  int status_ = 0;
};

// The same option for each of several paths, for require_distinct().
std::vector<NamedPath> named(const std::string& option, const std::vector<std::string>& paths);

}  // namespace hone
