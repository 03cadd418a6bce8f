#include "base/json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace hone {
namespace {

// Of text that begins as JSON, where it first goes beyond the limits. The parser never stands deeper than this does, as
// both tell strings from what is around them alike until the parser finds that it is no JSON.
struct Beyond {
  bool deep = false, many = false;
  size_t at = 0;
};

Beyond beyond(std::string_view text, const JsonLimits& limits) {
  int depth = 0;
  size_t values = 1;
  for (size_t i = 0; i < text.size(); ++i) {
    switch (text[i]) {
      case '"':
        for (++i; i < text.size() && text[i] != '"'; ++i) i += text[i] == '\\';
        break;
      case '[':
      case '{':
        if (++depth > limits.depth) return {.deep = true, .at = i};
        ++values;
        break;
      case ']':
      case '}':
        --depth;
        break;
      case ',':
        ++values;
        break;
      default:
        break;
    }
    if (values > limits.values) return {.many = true, .at = i};
  }
  return {};
}

// Nothing for a text of one line.
std::string line_of(std::string_view text, size_t at) {
  const auto lines =
      std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(std::min(at, text.size())), '\n');
  return lines == 0 && text.find('\n') == text.npos ? "" : fmt::format(" (line {})", lines + 1);
}

}  // namespace

nlohmann::json parse_json(std::string_view text, std::string* problem, const JsonLimits& limits) {
  const auto wrong = [&](std::string what, size_t at) {
    if (problem) *problem = what + line_of(text, at);
    return nlohmann::json(nlohmann::json::value_t::discarded);
  };
  const Beyond limit = beyond(text, limits);
  if (limit.deep) return wrong(fmt::format("is nested more than {} levels deep", limits.depth), limit.at);
  if (limit.many) return wrong(fmt::format("has more than {} values", limits.values), limit.at);
  if (!problem) return nlohmann::json::parse(text, nullptr, false);
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {  // its words quote bytes of any kind
    return wrong("is not JSON", error.byte == 0 ? 0 : error.byte - 1);
  } catch (const nlohmann::json::exception&) {  // a number beyond all that there are
    return wrong("is not JSON", 0);
  }
}

// By way of the writer, which replaces them.
std::string in_utf8(const std::string& text) {
  const std::string dumped = nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return parse_json(dumped).get<std::string>();
}

nlohmann::json require_json(std::string_view text, std::string_view what, const JsonLimits& limits) {
  std::string problem;
  nlohmann::json value = parse_json(text, &problem, limits);
  if (value.is_discarded()) throw input_error("{} {}", what, problem);
  return value;
}

}  // namespace hone
