#include "compress/methods/round_method.h"

#include "base/rows.h"
#include "compress/quantize_matrix.h"

namespace hone {

// Each in a file of its own.
RoundMethod rtn_method();
RoundMethod search_method();
RoundMethod gptq_method();

std::span<const RoundMethod> round_methods() {
  static const RoundMethod methods[] = {rtn_method(), search_method(), gptq_method()};
  return methods;
}

std::vector<std::string> round_method_names() {
  std::vector<std::string> names;
  for (const RoundMethod& method : round_methods())
    for (const std::string_view name : {method.name, method.also})
      if (!name.empty()) names.emplace_back(name);
  return names;
}

const RoundMethod& round_method(std::string_view name) {
  for (const RoundMethod& method : round_methods())
    if (!name.empty() && method.also == name) return method;
  return row_called(round_methods(), name, "rounding method");
}

RoundedWeight round_to_integers(const WeightToRound& what, bool search, std::span<const float> moments) {
  QuantizeOptions options;
  options.element = what.element;
  options.group = what.group;
  options.search = search;
  RoundedWeight rounded;
  rounded.matrix = quantize_matrix(what.weight, options, what.name, moments, what.mask);
  rounded.relative_error = quantization_error(what.weight, rounded.matrix, moments).relative();
  return rounded;
}

}  // namespace hone
