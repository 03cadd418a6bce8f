// What keeps a model from being written in a format of others, gathered so that one error says all of it.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "model/store.h"

namespace hone {

class Obstacles {
 public:
  void require(bool good, const std::string& what);  // an obstacle unless `good`; each is said once
  // What `step` throws as Error(usage) is one. Other errors are thrown on.
  void gather(const std::function<void()>& step);
  bool none() const { return all_.empty(); }
  std::string list(std::string_view between) const;
  // Throws Error(usage) where there are any: `before`, and all of them.
  void refuse(std::string_view before, std::string_view between) const;

 private:
  std::vector<std::string> all_;
};

// Of architectures that lack something of a model, those that lack least (the fewest things, told apart by ';'), each
// such list once.
class Nearest {
 public:
  void tried(std::string_view name, std::string_view lacks);
  std::string text() const { return text_; }

 private:
  std::string text_;
  int64_t least_ = 0;
};

// An obstacle where weights are not stored plainly, as masked and packed ones are not, with all their forms.
void require_plain(const Model& model, Obstacles& obstacles);

}  // namespace hone
