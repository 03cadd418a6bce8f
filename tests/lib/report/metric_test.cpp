#include "report/metric.h"

#include <doctest/doctest.h>

#include <set>

using namespace hone;

TEST_CASE("metrics have names of their own") {
  std::set<std::string> names;
  for (const Metric& metric : metrics()) {
    CAPTURE(metric.name);
    CHECK(names.insert(std::string(metric.name)).second);
    CHECK(find_metric(metric.name) == &metric);
  }
  CHECK(find_metric("accuracy_text") == nullptr);
}
