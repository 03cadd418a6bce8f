// JSON lines: one JSON object a line.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace hone {

// Calls f(value, number) for each line of `text` that is not blank; numbers count from 1. An escape of half a surrogate
// pair is read as U+FFFD, as no text holds one. Throws Error(input) with `name` and the number for a line that is not
// UTF-8 or not JSON; whether the value is an object is for f to see.
void each_json_line(std::string_view text, const std::string& name,
                    const std::function<void(nlohmann::json& value, size_t number)>& f);

// The member of that name if `value` is an object that has it, and it is a string; else null.
std::string* string_member(nlohmann::json& value, const char* name);

// For who reads text alone: throws Error(input) with `name` and the number for a line with "parts" (dataset/examples.h).
void refuse_parts(const nlohmann::json& value, const std::string& name, size_t number);

}  // namespace hone
