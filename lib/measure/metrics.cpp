#include "measure/metrics.h"

#include <algorithm>
#include <deque>
#include <string>
#include <vector>

#include "base/spelling.h"
#include "media/medium.h"

namespace hone {
namespace {

constexpr std::string_view before_media = "accuracy_by_bytes_stderr";

// "images and no sound", "images and sounds".
std::string words_of(const MediaMix& mix) {
  std::vector<std::string> there, missing;
  for (const Medium* medium : mix) there.emplace_back(medium->plural);
  for (const Medium* medium : all_media())
    if (std::ranges::find(mix, medium) == mix.end()) missing.emplace_back(medium->noun);
  return each_of(there) + (missing.empty() ? "" : " and no " + either_of(missing));
}

class ScoredMetrics {
 public:
  ScoredMetrics() {
    for (const Metric& metric : metrics()) {
      all_.push_back(metric);
      if (metric.name == before_media)
        for (const MediaMix& mix : media_mixes()) add(mix);
    }
  }
  std::span<const Metric> all() const { return all_; }

 private:
  void add(const MediaMix& mix) {
    const std::string_view name = kept("accuracy_" + mix_name(mix));
    const auto metric = [&](std::string_view called, std::string definition) {
      all_.push_back({called, Display::fraction, 2, "", kept(std::move(definition)), Origin::answers});
    };
    metric(name, "accuracy of the examples with " + words_of(mix));
    metric(kept(std::string(name) + "_stderr"), "standard error of " + std::string(name));
  }
  std::string_view kept(std::string text) { return texts_.emplace_back(std::move(text)); }

  std::vector<Metric> all_;
  std::deque<std::string> texts_;  // which the metrics of media name
};

}  // namespace

std::span<const Metric> scored_metrics() {
  static const ScoredMetrics made;
  return made.all();
}

}  // namespace hone
