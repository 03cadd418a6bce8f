#include "measure/metrics.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <string>

#include "media/medium.h"

using namespace hone;

TEST_CASE("metrics of scores are those of the table, and those of examples follow from the table of media") {
  std::set<std::string> names;
  for (const Metric& metric : scored_metrics()) CHECK(names.insert(std::string(metric.name)).second);
  CHECK(names.size() == metrics().size() + 2 * media_mixes().size());
  const auto before = std::ranges::find(scored_metrics(), std::string_view("accuracy_by_bytes_stderr"), &Metric::name);
  REQUIRE(before != scored_metrics().end());
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
  CHECK(at->name == "text_loss");  // what stands behind those of media in the table
}
