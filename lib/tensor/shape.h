// The dimensions of an array.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace hone {

// Up to `most` dimensions, in place: a token makes and copies hundreds of shapes, and none of them asks for memory.
class Shape {
 public:
  static constexpr size_t most = 8;

  // What a list of numbers has, as fmt and JSON read it.
  using value_type = int64_t;
  using iterator = int64_t*;
  using const_iterator = const int64_t*;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : Shape(dims.begin(), dims.end()) {}
  template <class Iterator>
  Shape(Iterator begin, Iterator end) {
    for (; begin != end; ++begin) push_back(static_cast<int64_t>(*begin));
  }

  size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }
  int64_t& operator[](size_t i) { return dims_[i]; }
  const int64_t& operator[](size_t i) const { return dims_[i]; }
  const int64_t& front() const { return dims_[0]; }
  const int64_t& back() const { return dims_[count_ - 1]; }
  const int64_t* data() const { return dims_; }
  iterator begin() { return dims_; }
  iterator end() { return dims_ + count_; }
  const_iterator begin() const { return dims_; }
  const_iterator end() const { return dims_ + count_; }

  void push_back(int64_t dim);   // Error(internal) beyond `most`: whoever reads a file has looked before
  void push_front(int64_t dim);  // the same
  void clear() { count_ = 0; }

  friend bool operator==(const Shape& a, const Shape& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

 private:
  int64_t dims_[most] = {};
  size_t count_ = 0;
};

int64_t elements(const Shape& shape);   // product of the dimensions; 1 for a scalar
std::string to_string(const Shape& s);  // "[256, 384]"

}  // namespace hone
