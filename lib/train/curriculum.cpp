#include "train/curriculum.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "base/error.h"
#include "base/units.h"

namespace hone {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end = 0; end != std::string::npos; begin = end + 1) {
    end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end == std::string::npos ? end : end - begin));
  }
  return parts;
}

// The stages of a text as they come, and what it may say.
class Stages {
 public:
  Stages(const std::string& of, int64_t batch_tokens, int64_t context, int64_t steps)
      : text(of), tokens(batch_tokens), context_(context), steps_(steps) {}

  const std::string& text;
  const int64_t tokens;  // of a batch, which lengths divide

  template <class... Args>
  Error wrong(fmt::format_string<Args...> why, Args&&... args) const {
    return usage_error("curriculum '{}': {}", text, fmt::format(why, std::forward<Args>(args)...));
  }

  int64_t length(const std::string& word) const {
    int64_t n = 0;
    try {
      n = parse_count(word);
    } catch (const Error&) {
      throw wrong("'{}' is no length", word);
    }
    if (n < 1) throw wrong("'{}' is no length", word);
    if (n > context_) throw wrong("{} is longer than the context of {}", n, context_);
    if (tokens % n != 0) throw wrong("{} does not divide the {} tokens of a batch", n, tokens);
    return n;
  }

  double part(const std::string& word) const {
    try {
      const double value = parse_fraction(word);
      if (value > 0 && value <= 1) return value;
    } catch (const Error&) {
    }
    throw wrong("'{}' is no part of the steps, such as 20%", word);
  }

  // `begin`: what part of the steps lies before.
  void add(double begin, int64_t context) {
    if (!stages_.empty() && context < stages_.back().context) throw wrong("lengths must not fall");
    const int64_t from = std::llround(begin * static_cast<double>(steps_));
    if (!stages_.empty() && stages_.back().from == from) stages_.pop_back();
    stages_.push_back({from, context});
  }

  std::vector<CurriculumStage> finished() const {
    if (stages_.back().context != context_)
      throw wrong("the last length must be the context, {}, at which the run is validated", context_);
    return stages_;
  }

 private:
  int64_t context_, steps_;
  std::vector<CurriculumStage> stages_;
};

std::string named_forms();

void add_list(Stages& stages) {
  const std::vector<std::string> entries = split(stages.text, ',');
  double before = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    const std::vector<std::string> parts = split(entries[i], ':');
    const bool last = i + 1 == entries.size();
    if (parts.size() > 2 || (parts.size() == 1 && !last))
      throw stages.wrong("'{}' is no LENGTH:PART, such as 64:20%{}", entries[i], named_forms());
    stages.add(before, stages.length(parts[0]));
    if (parts.size() == 2) before += stages.part(parts[1]);
    if (before > 1 + 1e-9) throw stages.wrong("the parts are more than 100% together");
    if (last && parts.size() == 2 && before < 1 - 1e-9)
      throw stages.wrong("the parts are {:.4g}% together; leave that of the last length out", 100 * before);
  }
}

void add_line(Stages& stages) {
  const std::vector<std::string> parts = split(stages.text, ':');
  if (parts.size() != 3) throw stages.wrong("a line is linear:FROM:TO");
  const int64_t from = stages.length(parts[1]), to = stages.length(parts[2]);
  if (from > to) throw stages.wrong("lengths must not fall");
  std::vector<int64_t> lengths;
  for (int64_t n = from; n <= to; ++n)
    if (stages.tokens % n == 0) lengths.push_back(n);
  // Each length from where the line comes nearer to it than to the one before.
  for (size_t i = 0; i < lengths.size(); ++i) {
    const double middle = i == 0 ? static_cast<double>(from) : 0.5 * static_cast<double>(lengths[i - 1] + lengths[i]);
    stages.add(to > from ? (middle - static_cast<double>(from)) / static_cast<double>(to - from) : 0, lengths[i]);
  }
}

struct Form {
  std::string_view name;  // texts that begin with it and a colon; of the first form nothing: all others
  std::string_view form;  // as it is written
  std::string_view what;  // behind that in help texts
  void (*add)(Stages& stages);
};

constexpr Form forms[] = {
    {"", "LENGTH:PART,…,CONTEXT", ", as in 64:20%,128:30%,256", add_list},
    {"linear", "linear:FROM:CONTEXT", "", add_line},
};

// Behind what is none of the first form.
std::string named_forms() {
  std::string text;
  for (const Form& form : forms)
    if (!form.name.empty()) text += fmt::format(", nor {}", form.form);
  return text;
}

const Form& form_of(const std::string& text) {
  for (const Form& form : forms)
    if (!form.name.empty() && text.starts_with(fmt::format("{}:", form.name))) return form;
  return forms[0];
}

}  // namespace

std::vector<CurriculumStage> curriculum_stages(const std::string& text, int64_t tokens, int64_t context,
                                               int64_t steps) {
  if (text.empty()) return {{0, context}};
  Stages stages(text, tokens, context, steps);
  form_of(text).add(stages);
  return stages.finished();
}

std::string curriculum_forms() {
  std::string text;
  for (const Form& form : forms) text += fmt::format("{}{}{}", text.empty() ? "" : "; or ", form.form, form.what);
  return text;
}

size_t stage_of(const std::vector<CurriculumStage>& stages, int64_t step) {
  const auto after = std::ranges::upper_bound(stages, step, {}, &CurriculumStage::from);
  return after == stages.begin() ? 0 : static_cast<size_t>(after - stages.begin()) - 1;
}

std::string describe(const std::vector<CurriculumStage>& stages) {
  std::string text;
  for (const CurriculumStage& stage : stages)
    text += text.empty() ? fmt::format("windows of {}", stage.context)
                         : fmt::format(", from step {} of {}", stage.from + 1, stage.context);
  return text;
}

}  // namespace hone
