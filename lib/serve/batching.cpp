#include "serve/batching.h"

#include <array>

#include "base/error.h"
#include "base/spelling.h"
#include "base/units.h"

namespace hone {
namespace {

// Continuous: whoever waits joins between two steps. One prompt at a time: two that are read in turn would both end
// when the second one does.
// Static: who waits when the last batch has ended makes the next one, which nobody joins. Its prompts are read first.
// Nobody waits for a batch to fill, and who ended is not computed further: as good as static batches can be.
constexpr std::array policies = {
    // The default, being first.
    BatchingPolicy{"continuous", 0, true, [](const Admission& now) { return !now.reading; }},
    BatchingPolicy{"static", -1, false, [](const Admission& now) { return now.was_idle; }},
    BatchingPolicy{"none", 1, true, [](const Admission& now) { return now.running == 0; }},
};

}  // namespace

std::string Batching::name() const {
  return policy->most < 0 ? fmt::format("{}:{}", policy->name, most) : std::string(policy->name);
}

Batching default_batching() {
  return {&policies.front(), policies.front().most};
}

Batching batching_named(std::string_view text) {
  const size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  for (const BatchingPolicy& policy : policies) {
    if (policy.name != name) continue;
    const bool counted = colon != std::string_view::npos;
    if (counted != (policy.most < 0))
      throw usage_error("'{}' {}", text, counted ? "takes no number" : "needs a number of texts, as in static:8");
    const int64_t most = counted ? parse_count(text.substr(colon + 1)) : policy.most;
    if (counted && (most < 1 || most > 4096)) throw usage_error("'{}' is not a batch of 1 to 4096 texts", text);
    return {&policy, most};
  }
  std::vector<std::string> names;
  for (const BatchingPolicy& policy : policies) names.emplace_back(policy.name);
  throw usage_error("'{}' is no way of batching: {}{}", text, batching_names(), did_you_mean(std::string(name), names));
}

std::span<const BatchingPolicy> batching_policies() {
  return policies;
}

std::string batching_names() {
  std::vector<std::string> names;
  for (const BatchingPolicy& policy : policies)
    names.push_back(std::string(policy.name) + (policy.most < 0 ? ":N" : ""));
  return either_of(names);
}

}  // namespace hone
