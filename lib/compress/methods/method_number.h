// The number that a pruning or rounding method may have, as it is written behind its name: "gptq:0.05".
#pragma once

#include <fmt/format.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace hone {

struct MethodNumber {
  std::string_view name;  // "DAMPENING"
  std::string_view what;  // for people, behind the name
  double usual, least, most;
};

// Of the rows of a table of methods, for people: "gptq[:DAMPENING]: what it does; …", and what each number is.
template <class Method>
std::string methods_help(std::span<const Method> methods) {
  std::string text, numbers;
  for (const Method& m : methods) {
    text += fmt::format("{}{}{}: {}", text.empty() ? "" : "; ", m.name,
                        m.number ? fmt::format("[:{}]", m.number->name) : "", m.summary);
    if (!m.number || numbers.find(m.number->what) != std::string::npos) continue;
    numbers += fmt::format(". {}: {}, {} by default", m.number->name, m.number->what, m.number->usual);
  }
  return text + numbers;
}

// Of "gptq:0.05" "gptq".
std::string method_name(const std::string& text);
// And what it has behind its colon; nothing where there is none. Throws Error(usage) for what is no
// number, outside its range, or given to a method without one.
std::optional<double> method_number(const std::string& text, const std::optional<MethodNumber>& number);
// As it is written: "gptq:0.05", or "gptq".
std::string method_text(std::string_view method, std::optional<double> number);

}  // namespace hone
