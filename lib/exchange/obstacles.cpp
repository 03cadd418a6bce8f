#include "exchange/obstacles.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/error.h"

namespace hone {
namespace {

class PlainChecker : public Reader {
 public:
  void weight(const ParameterInfo&, const Weight& weight) override {
    if (weight.form() != "dense") forms.insert(fmt::format("{} {}", weight.form(), weight.element()));
  }
  void parameter(const ParameterInfo&, const Parameter&) override {}

  std::set<std::string> forms;
};

}  // namespace

void Obstacles::require(bool good, const std::string& what) {
  if (!good && std::ranges::find(all_, what) == all_.end()) all_.push_back(what);
}

void Obstacles::gather(const std::function<void()>& step) {
  try {
    step();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::usage) throw;
    require(false, error.what());
  }
}

std::string Obstacles::list(std::string_view between) const {
  return fmt::format("{}", fmt::join(all_, between));
}

void Obstacles::refuse(std::string_view before, std::string_view between) const {
  if (!none()) throw usage_error("{}{}", before, list(between));
}

void Nearest::tried(std::string_view name, std::string_view lacks) {
  const int64_t count = std::ranges::count(lacks, ';');
  const std::string what = fmt::format(": {}", lacks);
  if (!text_.empty() && (count > least_ || (count == least_ && text_.find(what) != std::string::npos))) return;
  text_ = fmt::format("{}{}{}", text_.empty() || count < least_ ? "" : text_ + ", or ", name, what);
  least_ = count;
}

void require_plain(const Model& model, Obstacles& obstacles) {
  PlainChecker checker;
  std::as_const(*model.transformer).visit(checker);
  obstacles.require(checker.forms.empty(),
                    fmt::format("its weights are {}, densify them", fmt::join(checker.forms, ", ")));
}

}  // namespace hone
