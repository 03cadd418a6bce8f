// What a file of a medium holds, once it is decoded.
#pragma once

#include <any>
#include <concepts>
#include <cstdint>
#include <utility>

#include "base/error.h"

namespace hone {

// Of whatever type the medium has for it: media::Image, media::Sound. Its encoders and its augmentation know which; all
// others ask for the size alone.
class Decoded {
 public:
  template <class T>
  requires(!std::same_as<T, Decoded>) && requires(const T& value) { value.bytes(); }
  Decoded(T value) : bytes_(value.bytes()), value_(std::move(value)) {}

  // Throws Error(internal) where it is of another type.
  template <class T>
  const T& as() const {
    if (const T* const value = std::any_cast<T>(&value_)) return *value;
    throw internal_error("what was decoded is of another medium");
  }
  int64_t bytes() const { return bytes_; }

 private:
  int64_t bytes_;  // before the value, which is moved from
  std::any value_;
};

}  // namespace hone
