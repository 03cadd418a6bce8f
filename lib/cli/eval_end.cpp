#include "cli/eval_end.h"

#include "base/cpu.h"
#include "base/error.h"
#include "base/log.h"
#include "base/spelling.h"
#include "cli/precision.h"

namespace hone::cli {

void EvalEnd::add_machine(Row& row) const {
  row.set("precision", precision_in_use(o_.precision) + o_.low_bit.described());
  if (!o_.baseline.empty()) row.set("baseline", o_.baseline);
  row.set("threads", common_.threads)
      .set("isa", std::string(name_of(isa())))
      .set("seed", static_cast<int64_t>(common_.seed));
}

void EvalEnd::write(const Report& report) {
  const std::string text = render(report, format_named(o_.format));
  if (o_.output == "-" || !late_.write("--output", o_.output, text)) print_result(text);
}

void EvalEnd::require(const std::string& path, std::span<const Requirement> requirements, const MetricValues& values,
                      const MetricValues& baseline) {
  for (const Requirement& requirement : requirements) {
    const RequirementResult result = requirement.evaluate(values, baseline);
    const std::string text = fmt::format("{}: {}", path, describe(result));
    log_line(result.passed ? LogLevel::info : LogLevel::error, text);
    if (!result.passed && failed_++ == 0) first_failed_ = text;
    ++required_;
  }
}

std::string EvalEnd::failed() const {
  if (failed_ == 0) return "";
  return fmt::format("{} of {} failed, first {}", failed_, counted(required_, "requirement"), first_failed_);
}

int EvalEnd::status() const {
  if (failed_ > 0) throw Error(ErrorKind::requirement, failed() + missing());
  return late_.status();
}

}  // namespace hone::cli
