#include "report/requirement.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>

#include "base/error.h"

using namespace hone;
using doctest::Approx;

namespace {

const MetricValues model = {{"accuracy", 0.5}, {"bits_per_byte", 2.02}, {"file_bytes", 1000}, {"kl", 0.04},
                            {"loss", 1.41},    {"perplexity", 11},      {"parameters", 100}};
const MetricValues baseline = {{"accuracy", 0.51}, {"bits_per_byte", 2.0}, {"file_bytes", 6000},
                               {"loss", 1.4},      {"perplexity", 10},     {"parameters", 0}};

std::vector<std::string_view> metric_names() {
  std::vector<std::string_view> names;
  for (const Metric& metric : metrics()) names.push_back(metric.name);
  return names;
}

RequirementResult evaluate(const std::string& text) {
  return Requirement(text, metric_names(), true).evaluate(model, baseline);
}

std::string refusal(const std::string& text, bool have_baseline = true) {
  try {
    const Requirement requirement(text, metric_names(), have_baseline);
    requirement.evaluate(model, baseline);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
    return error.what();
  }
  return "(nothing was thrown)";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("the requirements people write") {
  CHECK(evaluate("accuracy >= 0.98*baseline").passed);
  CHECK(evaluate("bits_per_byte <= 1.02*baseline").passed);
  CHECK(!evaluate("bits_per_byte <= 1.005*baseline").passed);
  CHECK(evaluate("file_bytes <= baseline/6").passed);
  CHECK(!evaluate("file_bytes < baseline/6").passed);
  CHECK(evaluate("kl < 0.05").passed);
  CHECK(evaluate("loss - baseline <= 0.02").passed);
  CHECK(!evaluate("loss - baseline <= 0.005").passed);
  CHECK(evaluate("perplexity<12").passed);
  CHECK(evaluate("file_bytes == 1000").passed);
  CHECK(evaluate("file_bytes <= 1kB").passed);
  CHECK(evaluate("accuracy >= 98%*baseline").passed);
  CHECK(evaluate("0.98*baseline <= accuracy").passed);
  CHECK(evaluate("file_bytes/parameters < baseline.file_bytes/100").passed);
}

TEST_CASE("a result carries both sides and its text") {
  const RequirementResult result = evaluate("accuracy >= 0.99*baseline");
  CHECK(result.text == "accuracy >= 0.99*baseline");
  CHECK(result.left == 0.5);
  CHECK(result.right == Approx(0.5049));
  CHECK(!result.passed);
  CHECK(describe(result) == "requirement failed: accuracy >= 0.99*baseline (left 0.5, right 0.5049)");
}

TEST_CASE("arithmetic has the usual precedence and direction") {
  const auto value = [](const std::string& text) { return evaluate("accuracy > " + text).right; };
  CHECK(value("1+2*3") == 7);
  CHECK(value("(1+2)*3") == 9);
  CHECK(value("10-4-3") == 3);
  CHECK(value("100/10/2") == 5);
  CHECK(value("-2*-3") == 6);
  CHECK(value("2*-(3-5)") == 4);
  CHECK(value("1e-3*1e3") == Approx(1));
  CHECK(value("1.5k-500") == 1000);
  CHECK(value("\t loss \t*2") == Approx(2.82));
}

TEST_CASE("NaN never passes") {
  const MetricValues broken = {{"loss", std::numeric_limits<double>::quiet_NaN()}};
  for (const char* text : {"loss < 1", "loss > 1", "loss == 1", "loss <= 1", "loss >= 1", "1 < loss"})
    CHECK(!Requirement(text, metric_names(), false).evaluate(broken).passed);
}

TEST_CASE("errors show where, what was expected, and the metrics there are") {
  CHECK(contains(
      refusal("accuraci >= 0.5"),
      "position 1: expected a metric, found 'accuraci >= 0.5'; did you mean 'accuracy'?; metrics: file_bytes, "));
  CHECK(contains(refusal("accuracy => 0.5"), "position 10: expected <, <=, >, >= or ==, found '=> 0.5'"));
  CHECK(contains(refusal("accuracy"), "position 9: expected <, <=, >, >= or ==, found the end"));
  CHECK(contains(refusal("accuracy >= "), "position 13: expected a number, a metric, baseline or '(', found the end"));
  CHECK(contains(refusal(""), "position 1: expected a number"));
  CHECK(contains(refusal("accuracy >= (1+2"), "position 17: expected ')', found the end"));
  CHECK(contains(refusal("accuracy >= 1)"), "position 14: expected an operator or the end, found ')'"));
  CHECK(contains(refusal("0 < accuracy < 1"), "position 14: expected an operator or the end"));
  CHECK(contains(refusal("accuracy >= 3zz"), "position 13: '3zz': 'zz' is not a unit"));
  CHECK(contains(refusal("accuracy >= baseline.speed"), "position 22: expected a metric after 'baseline.'"));
  CHECK(contains(refusal("accuracy >= baseline."), "position 22: expected a metric after 'baseline.', found the end"));
  CHECK(contains(refusal("accuracy >= " + std::string(100000, '(')), "nested"));
  CHECK(contains(refusal("accuracy >= " + std::string(100000, '-')), "nested"));
}

TEST_CASE("a baseline is refused without one, as are metrics that compare") {
  CHECK(contains(refusal("accuracy >= baseline", false), "position 13: 'baseline' needs a baseline model"));
  CHECK(contains(refusal("kl < 0.05", false), "'kl' needs a baseline model"));
}

TEST_CASE("the ends of intervals can be required") {
  const MetricValues compared = {{"loss_ratio_high", 1.01}, {"loss", 1}};
  CHECK(Requirement("loss_ratio_high <= 1.02", metric_names(), true).evaluate(compared).passed);
  CHECK(contains(refusal("loss_ratio_high <= 1.02", false), "needs a baseline model"));
  CHECK(contains(refusal("lost_ratio_high <= 1.02"), "expected a metric"));
}

TEST_CASE("what a bare baseline means must be clear") {
  CHECK(contains(refusal("loss*accuracy < baseline"), "'baseline' could be of accuracy or loss; write baseline.NAME"));
  CHECK(contains(refusal("1 < baseline"), "'baseline' could be any metric"));
  CHECK(evaluate("loss*accuracy < baseline.loss").passed);
}

TEST_CASE("division by zero and missing values are errors, not passes") {
  CHECK(contains(refusal("loss < 1/0"), "division by zero"));
  CHECK(contains(refusal("parameters/baseline > 1"), "division by zero"));
  CHECK(contains(refusal("sparsity > 0.5"), "sparsity was not measured for the model"));
}

TEST_CASE("what cannot be known once models are scored is refused before") {
  const auto refused = [](const std::string& text, const WhyUnmeasured& why = {}) {
    const std::vector<std::string_view> known = {"loss", "kl"};
    try {
      const Requirement requirement(text, known, true, why);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::usage);
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(contains(refused("loss_low < 1"), "position 1: expected a metric, found 'loss_low < 1'"));
  CHECK(contains(refused("kl <= baseline"), "kl is not measured for the baseline"));
  CHECK(contains(refused("loss < baseline.loss_ratio"), "loss_ratio is not measured for the baseline"));
  CHECK(contains(refused("loss/0 < 1"), "division by zero"));
  CHECK(contains(refused("1 < loss/(2 - 4/2)"), "division by zero"));
  for (const char* fine : {"loss/kl < 1", "loss/(kl - 0) < 1", "kl_low > 0", "loss_ratio_low > 0", "loss/2 < 1"}) {
    CAPTURE(fine);
    CHECK(refused(fine).empty());
  }
  const auto why = [](std::string_view metric) {
    return metric == "accuracy" ? std::string("is measured with --answers") : std::string();
  };
  CHECK(contains(refused("loss < accuracy", why), "position 8: 'accuracy' is measured with --answers"));
  CHECK(contains(refused("loss < accuracy_ratio", why), "position 8: 'accuracy_ratio' is measured with --answers"));
  CHECK(contains(refused("loss < sparsity", why), "position 8: expected a metric"));
}

TEST_CASE("the metrics that a requirement names") {
  const Requirement requirement("loss + 2*accuracy < baseline.parameters + loss", metric_names(), true);
  CHECK(requirement.metrics() == std::set<std::string>{"accuracy", "loss"});
}
