// The table of elements: each row agrees with itself, and nf4 with its definition.
#include "kernels/packed/element.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "kernels/packed/nearest.h"
#include "kernels/packed/scale_search.h"

using namespace hone::kernels;

namespace {

// The number below which normal numbers are with probability p.
double normal_quantile(double p) {
  double low = -10, high = 10;
  for (int i = 0; i < 200; ++i) {
    const double middle = (low + high) / 2;
    (std::erfc(-middle / std::sqrt(2.0)) / 2 < p ? low : high) = middle;
  }
  return low;
}

// `count` quantiles at places from `from` down to 1/2, without that of 1/2.
std::vector<double> quantiles(double from, int count) {
  std::vector<double> result;
  for (int i = 0; i < count; ++i) result.push_back(normal_quantile(from + (0.5 - from) * i / count));
  return result;
}

}  // namespace

TEST_CASE("every element has a name of its own, codes that come back, and bytes for the products") {
  std::set<std::string_view> names;
  for (const PackedElement element : all_elements) {
    const ElementInfo& info = info_of(element);
    CAPTURE(std::string(info.name));
    CHECK(names.insert(info.name).second);
    CHECK(find_element(info.name) == element);
    CHECK_FALSE(info.what.empty());
    if (!info.scaled) continue;
    CHECK(info.integer_of(info.zero) == 0);
    int known = 0;
    for (int q = info.lowest - 1; q <= info.highest + 1; ++q) {
      const int code = info.code_of(q);
      if (code < 0) continue;
      ++known;
      CHECK(code < info.codes());
      CHECK(info.integer_of(code) == q);
      CHECK(q >= info.lowest);
      CHECK(q <= info.highest);
      CHECK(q + info.offset() >= (info.arithmetic == Arithmetic::integer ? 0 : -128));
      CHECK(q + info.offset() <= 255);
      CHECK(info.number_of(q) == -info.number_of(-q));
      CHECK(info.number_of(q) > info.number_of(q - 1));
    }
    // Floating-point elements lack -0, and at most the numbers of the highest exponent.
    CHECK(known >= info.codes() - 1 - (info.codes_are == Codes::floating ? 2 << info.mantissa : 0));
    CHECK(info.code_of(info.lowest) >= 0);
    CHECK(info.code_of(info.highest) >= 0);
    if (info.codes_are != Codes::table) continue;
    CHECK(info.zero <= ValueSteps::most);  // for the scale search, on either side of 0
    CHECK(info.codes() - 1 - info.zero <= ValueSteps::most);
    for (int code = 1; code < info.codes(); ++code) CHECK(info.values[code - 1] < info.values[code]);
  }
  CHECK_FALSE(find_element("no element"));
}

TEST_CASE("fp8 has the numbers of E4M3") {
  const ElementInfo& info = info_of(element_named("fp8"));
  CHECK(info.number_of(info.integer_of(0x7e)) == 448);
  CHECK(info.number_of(info.integer_of(0x38)) == 1);
  CHECK(info.number_of(info.integer_of(0xb9)) == -1.125f);
  CHECK(info.number_of(info.integer_of(0x08)) == 0x1p-6f);
  CHECK(info.number_of(info.integer_of(0x07)) == 7 * 0x1p-9f);
  CHECK(info.number_of(info.integer_of(0x01)) == 0x1p-9f);
  CHECK(info.integer_of(0x80) == 0);
  CHECK(info.code_of(127) == -1);
}

TEST_CASE("the nearest integer of fp8: ties go to the even one, and none is beyond the highest") {
  const ElementNumbers numbers(element_named("fp8"));
  for (int q = -126; q < 126; ++q) {
    const float middle = (numbers[q] + numbers[q + 1]) / 2, step = numbers[q + 1] - numbers[q];
    CHECK(numbers.nearest(numbers[q]) == q);
    CHECK(numbers.nearest(middle) == (q % 2 == 0 ? q : q + 1));
    CHECK(numbers.nearest(middle - step / 16) == q);
    CHECK(numbers.nearest(middle + step / 16) == q + 1);
  }
  CHECK(numbers.nearest(1e9f) == 126);
  CHECK(numbers.nearest(-470) == -126);
}

TEST_CASE("nf4 has the quantiles of QLoRA's appendix E, to the nearest 127th") {
  const double from = 1 - (1.0 / 32 + 1.0 / 30) / 2;
  std::vector<double> values = quantiles(from, 8);
  for (const double x : quantiles(from, 7)) values.push_back(-x);
  values.push_back(0);
  std::sort(values.begin(), values.end());
  CHECK(values[1] / values.back() == doctest::Approx(-0.6961928009986877));  // as the paper prints them
  CHECK(values[8] / values.back() == doctest::Approx(0.07958029955625534).epsilon(1e-5));
  REQUIRE(values.size() == 16);
  for (size_t i = 0; i < 16; ++i) {
    const double value = values[i] / values.back();
    CHECK(nf4_values[i] == std::lround(127 * value));
    CHECK(std::abs(nf4_values[i] / 127.0 - value) < 0.0037);
  }
}
