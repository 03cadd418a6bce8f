#include "exchange/obstacles.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/spelling.h"

namespace hone {
namespace {

struct WeightsOfAForm {
  std::string first;
  int64_t count = 0;
};

class PlainChecker : public Reader {
 public:
  void weight(const ParameterInfo& info, const Weight& weight) override {
    if (weight.form() == "dense") return;
    WeightsOfAForm& form = forms[{std::string(weight.form()), std::string(weight.element())}];
    if (form.count++ == 0) form.first = info.name;
  }
  void parameter(const ParameterInfo&, const Parameter&) override {}

  std::map<std::pair<std::string, std::string>, WeightsOfAForm> forms;  // by form and element
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

void require_plain(const Model& model, Obstacles& obstacles) {
  PlainChecker checker;
  std::as_const(*model.transformer).visit(checker);
  for (const auto& [form, weights] : checker.forms)
    obstacles.require(false, fmt::format("{} ('{}'{}), which have no place there; densify writes their numbers plainly",
                                         counted(weights.count, fmt::format("{} {} weight", form.first, form.second)),
                                         weights.first, weights.count > 1 ? " first" : ""));
}

}  // namespace hone
