#include "compress/methods/method_number.h"

#include "base/error.h"
#include "base/units.h"

namespace hone {

std::string method_name(const std::string& text) {
  return text.substr(0, text.find(':'));
}

std::optional<double> method_number(const std::string& text, const std::optional<MethodNumber>& number) {
  const size_t colon = text.find(':');
  if (colon == std::string::npos) return std::nullopt;
  if (!number) throw usage_error("method '{}': {} takes no number", text, method_name(text));
  const double value = parse_number(text.substr(colon + 1));
  if (!(value >= number->least && value <= number->most))
    throw usage_error("method '{}': {} must be between {} and {}", text, number->name, number->least, number->most);
  return value;
}

std::string method_text(std::string_view method, std::optional<double> number) {
  return number ? fmt::format("{}:{}", method, *number) : std::string(method);
}

}  // namespace hone
