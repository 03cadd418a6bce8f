// Ending a text where one of several strings appears in it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hone {

// Takes text as it comes and gives back what is certain to stand before the first stop string; what may yet become one
// is held back. Of strings that end at the same place, the one that begins first counts.
class StopText {
 public:
  explicit StopText(std::vector<std::string> stops);  // throws Error(usage) for an empty string

  std::string push(std::string_view text);  // "" after a stop was found
  std::string finish();                     // what was held back, when no more comes
  bool found() const { return found_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool found_ = false;
};

}  // namespace hone
