// Dimensions that lie in place.
#include "tensor/shape.h"

#include <doctest/doctest.h>

#include <vector>

#include "support/failure.h"

using namespace hone;

TEST_CASE("a shape is its dimensions, in order, and nothing behind them") {
  Shape shape = {2, 3};
  CHECK(shape.size() == 2);
  CHECK(shape.front() == 2);
  CHECK(shape.back() == 3);
  CHECK(elements(shape) == 6);
  CHECK(elements(Shape()) == 1);
  shape.push_back(4);
  CHECK(shape == Shape{2, 3, 4});
  shape.push_front(5);
  CHECK(shape == Shape{5, 2, 3, 4});
  CHECK(to_string(shape) == "[5, 2, 3, 4]");
  CHECK(shape != Shape{5, 2, 3});
  CHECK(shape != Shape{5, 2, 3, 5});
  const std::vector<int64_t> dims = {7, 8};
  shape = Shape(dims.begin(), dims.end());
  CHECK(shape == Shape{7, 8});  // what was longer before leaves nothing
  shape.clear();
  CHECK(shape.empty());
  CHECK(shape == Shape());
}

TEST_CASE("a shape has at most eight dimensions") {
  Shape shape;
  for (int64_t i = 0; i < 8; ++i) shape.push_back(i + 1);
  CHECK(shape.size() == Shape::most);
  const std::vector<int64_t> nine(9, 1);
  CHECK(test::failure([&] { shape.push_back(9); }).find("more than 8 dimensions") != std::string::npos);
  CHECK(test::failure([&] { Shape(nine.begin(), nine.end()); }).find("more than 8 dimensions") != std::string::npos);
  CHECK(elements(shape) == 40320);  // as it was
}
