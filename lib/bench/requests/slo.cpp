#include "bench/requests/slo.h"

#include <cctype>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/spelling.h"
#include "base/units.h"

namespace hone {
namespace {

// "500ms", "2s", "1.5m", "1h": a unit is needed.
double seconds_of(std::string_view text) {
  size_t digits = 0;
  while (digits < text.size() && !std::isalpha(static_cast<unsigned char>(text[digits]))) ++digits;
  const std::string_view unit = text.substr(digits);
  const double scale = unit == "ms" ? 1e-3 : unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : 0;
  if (digits == 0 || scale == 0) throw usage_error("'{}' is no time; give one such as 500ms, 2s, 1.5m or 1h", text);
  const double value = parse_number(text.substr(0, digits)) * scale;
  if (!(value > 0)) throw usage_error("'{}' is no time above 0", text);
  return value;
}

}  // namespace

bool Slo::any() const {
  return std::isfinite(first_token) || std::isfinite(token) || std::isfinite(request);
}

Slo slo_of(std::string_view text) {
  Slo objective;
  const std::vector<std::pair<std::string, double*>> parts = {
      {"first_token", &objective.first_token}, {"token", &objective.token}, {"request", &objective.request}};
  std::vector<std::string> names;
  for (const auto& [name, value] : parts) names.push_back(name);
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view item = text.substr(begin, end - begin);
    begin = end + 1;
    const size_t equals = item.find('=');
    const std::string name(item.substr(0, equals));
    double* value = nullptr;
    for (const auto& [known, place] : parts)
      if (known == name) value = place;
    if (!value || equals == std::string_view::npos)
      throw usage_error("'{}' is not NAME=TIME with {}{}", item, either_of(names), did_you_mean(name, names));
    if (std::isfinite(*value)) throw usage_error("'{}' stands in '{}' twice", name, text);
    *value = seconds_of(item.substr(equals + 1));
  }
  return objective;
}

}  // namespace hone
