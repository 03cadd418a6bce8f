#include "report/metric.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "media/medium.h"

using namespace hone;

TEST_CASE("metrics have names of their own, and those of examples follow from the table of media") {
  std::set<std::string> names;
  for (const Metric& metric : metrics()) {
    CAPTURE(metric.name);
    CHECK(names.insert(std::string(metric.name)).second);
    CHECK(find_metric(metric.name) == &metric);
  }
  const auto before = std::ranges::find(metrics(), std::string_view("accuracy_by_bytes_stderr"), &Metric::name);
  REQUIRE(before != metrics().end());
  auto at = before + 1;
  for (const MediaMix& mix : media_mixes()) {
    const std::string name = "accuracy_" + mix_name(mix);
    CAPTURE(name);
    CHECK(at->name == name);
    CHECK(at->origin == Origin::answers);
    CHECK(at->definition.starts_with(std::string("accuracy of the examples with ") + mix.front()->plural));
    CHECK((at->definition.find(" and no ") != std::string_view::npos) == (mix.size() < all_media().size()));
    CHECK((++at)->name == name + "_stderr");
    CHECK(at->definition == "standard error of " + name);
    ++at;
  }
  CHECK(at->name == "mean_depth");
  CHECK(find_metric("accuracy_text") == nullptr);
}
