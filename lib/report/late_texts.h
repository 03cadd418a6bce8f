// Reports and plots that a tool writes when its work is done. What fails there is said at the very end: what is
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
  // `path`: where a model is that was to be in `wanted`.
  void saved(const std::string& wanted, const std::string& path);
  // Of what was written on the way, why it is not there or not whole; an empty reason is nothing.
  void lacks(const std::string& option, const std::string& reason);

  // What is missing, or not where it was wanted, and why; "" where nothing is.
  const std::string& missing() const { return missing_; }
  // When all else is written and printed: 0, or Error(input) with what is missing.
  int status() const;

 private:
  void add(const std::string& sentence);

  bool force_;
  std::string missing_;
};

// The same option for each of several paths, for require_distinct().
std::vector<NamedPath> named(const std::string& option, const std::vector<std::string>& paths);

}  // namespace hone
