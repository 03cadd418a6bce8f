// Who is served together: policies of an engine, to compare.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hone {

// What a policy may look at before the text that stands first begins.
struct Admission {
  int64_t running = 0;   // texts that have a place
  bool was_idle = true;  // none had when this step began
  bool reading = false;  // a prompt among them is not read to its end
};

struct BatchingPolicy {
  std::string_view name;
  int64_t most;         // texts at once, whatever else is said; 0: the engine's number; -1: "NAME:N" says it
  bool beside_prompts;  // whether texts are written while a prompt is read
  bool (*admits)(const Admission& now);
};

// A policy and its number, of a text like "static:8".
struct Batching {
  const BatchingPolicy* policy;
  int64_t most;  // texts at once; 0: the engine's number

  std::string name() const;
};

std::span<const BatchingPolicy> batching_policies();
Batching default_batching();  // the first row
// Throws Error(usage) for a name that no policy has.
Batching batching_named(std::string_view text);
std::string batching_names();  // "continuous, static:N or none"

}  // namespace hone
