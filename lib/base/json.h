// JSON from outside: requests, lines and files that anyone may have written.                              nlohmann-json
#pragma once

#include <cstddef>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace hone {

// How deep lists and objects may stand in each other: nlohmann's trees are copied, written and freed by recursion,
// which a deep one lets outgrow the stack.
constexpr int deepest_json = 64;

struct JsonLimits {
  int depth = deepest_json;
  size_t values = std::numeric_limits<size_t>::max();  // members and items, of all lists and objects together
};

// Discarded where `text` is no JSON or goes beyond the limits, before any tree of it is made. `problem`, if there is
// one, says then what is wrong, in words that follow a name: "is not JSON (line 3)", "is nested more than 64 levels
// deep".
nlohmann::json parse_json(std::string_view text, std::string* problem = nullptr, const JsonLimits& limits = {});

// With a sign in place of each byte that is no UTF-8, of which arguments and names of files may have any.
std::string in_utf8(const std::string& text);

// `what` names it in the error. Throws Error(input): "WHAT is not JSON (line 3)".
nlohmann::json require_json(std::string_view text, std::string_view what, const JsonLimits& limits = {});

}  // namespace hone
