#include "dataset/json_lines.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/spelling.h"
#include "base/stop.h"
#include "dataset/utf8.h"
#include "media/medium.h"

namespace hone {
namespace {

// The code unit of an escape \uXXXX at `at`, or -1.
int escaped_unit(std::string_view line, size_t at) {
  if (at + 6 > line.size() || line[at] != '\\' || line[at + 1] != 'u') return -1;
  int unit = 0;
  for (const char c : line.substr(at + 2, 4)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return -1;
    unit = unit * 16 + digit;
  }
  return unit;
}

bool is_high(int unit) {
  return unit >= 0xd800 && unit < 0xdc00;
}
bool is_low(int unit) {
  return unit >= 0xdc00 && unit < 0xe000;
}

// Escapes of halves that have no other half become \ufffd. Backslashes stand only within the strings of JSON.
std::string with_whole_surrogates(std::string line) {
  for (size_t at = line.find('\\'); at < line.size(); at = line.find('\\', at)) {
    const int unit = escaped_unit(line, at);
    if (unit < 0) {
      at += 2;
    } else if (is_high(unit) && is_low(escaped_unit(line, at + 6))) {
      at += 12;
    } else {
      if (is_high(unit) || is_low(unit)) line.replace(at, 6, "\\ufffd");
      at += 6;
    }
  }
  return line;
}

bool may_have_surrogates(std::string_view line) {
  return line.find("\\ud") != line.npos || line.find("\\uD") != line.npos;
}

}  // namespace

void each_json_line(std::string_view text, const std::string& name,
                    const std::function<void(nlohmann::json& value, size_t number)>& f) {
  for (size_t number = 1; !text.empty(); ++number) {
    check_stop();
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    const size_t valid = valid_utf8_prefix(line);
    if (valid < line.size())
      throw input_error("{}, line {}: byte {} is not valid UTF-8: convert the file to UTF-8", name, number, valid + 1);
    std::string problem;
    nlohmann::json value = may_have_surrogates(line) ? parse_json(with_whole_surrogates(std::string(line)), &problem)
                                                     : parse_json(line, &problem);
    if (value.is_discarded())
      throw input_error("{}, line {}: it {}: each line must be one JSON object", name, number, problem);
    f(value, number);
  }
}

std::string* string_member(nlohmann::json& value, const char* name) {
  if (!value.is_object()) return nullptr;
  const auto found = value.find(name);
  return found != value.end() && found->is_string() ? &found->get_ref<std::string&>() : nullptr;
}

void refuse_parts(const nlohmann::json& value, const std::string& name, size_t number) {
  if (value.is_object() && value.contains("parts"))
    throw input_error("{}, line {}: it has \"parts\", as lines with {} have, and text alone is read here", name, number,
                      either_of(media_words(&Medium::plural)));
}

}  // namespace hone
