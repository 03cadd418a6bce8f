// A service-level objective: what a request may take at most for its answer to be of use.
#pragma once

#include <limits>
#include <string>
#include <string_view>

namespace hone {

// In seconds. A request meets it where all three hold for it.
struct Slo {
  double first_token = std::numeric_limits<double>::infinity();  // from when it came
  double token = std::numeric_limits<double>::infinity();        // between two tokens, as a mean over its text
  double request = std::numeric_limits<double>::infinity();      // until its last token

  bool any() const;
};

// "first_token=500ms,token=50ms,request=20s", in any order, some of them. Throws Error(usage).
Slo slo_of(std::string_view text);

}  // namespace hone
