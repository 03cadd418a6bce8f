// Comes before every unit test. Clang up to 15 knows no structured bindings inside a lambda, which is what doctest's
// INFO and CAPTURE make: there they are given the text instead.
#pragma once

#include <doctest/doctest.h>

#if defined(__clang__) && __clang_major__ < 16
#include <ostream>

namespace captured_text {
template <class... T>
doctest::String text_of(const T&... parts) {
  doctest::String all;
  ((all += doctest::toString(parts)), ...);
  return all;
}
}  // namespace captured_text

#undef INFO
#undef CAPTURE
#define INFO(...)                                                              \
  const auto DOCTEST_ANONYMOUS(captured_) = doctest::detail::MakeContextScope( \
      [text = captured_text::text_of(__VA_ARGS__)](std::ostream* stream) { *stream << text; })
#define CAPTURE(x) INFO(#x " := ", x)
#endif
