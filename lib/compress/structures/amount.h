// How much of something is asked to go.
#pragma once

#include <cstdint>
#include <string>

namespace hone {

// So many of them, or so large a part.
struct Amount {
  int64_t count = 0;
  double fraction = 0;
  bool is_fraction = false;
  std::string text;  // as it was typed, with its kind: "heads:25%"
};

// `text`: "4", "25%"; `entry` with its kind, for messages. Throws Error(usage) for what it cannot read, and for
// nothing.
Amount parse_amount(const std::string& text, const std::string& entry);

// Of `all`, as many whole ones as are not more than was asked for.
int64_t whole(const Amount& amount, int64_t all);

// Throws Error(usage) where `wanted` is not between `least` and `most`, of `all` that there are.
void require_within(const Amount& amount, int64_t wanted, int64_t least, int64_t most, int64_t all,
                    const std::string& of, const std::string& hint = "");
void require_some(const Amount& amount, int64_t there, const char* what);
std::string percent(int64_t part, int64_t all);

// Of a width `all`: a count is taken as it is; where a part goes, what stays is the nearest multiple, at least one.
// Throws as require_within(), and where all that is smaller is no multiple.
int64_t width_to_remove(const Amount& amount, int64_t all, int64_t multiple, const std::string& of,
                        const std::string& hint = "");

}  // namespace hone
