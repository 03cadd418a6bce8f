// A small layer over HDF5's C API: handles that close themselves, and attributes with checked types. Private to this
// room.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/dtype.h"
#include "tensor/tensor.h"

namespace hone::hdf5 {

class Handle {
 public:
  using Close = herr_t (*)(hid_t);

  Handle() = default;
  Handle(hid_t id, Close closer) : id_(id), close_(closer) {}
  ~Handle() { close(); }
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }

  explicit operator bool() const { return id_ >= 0; }
  operator hid_t() const { return id_; }
  bool close() { return id_ < 0 || close_(std::exchange(id_, -1)) >= 0; }  // false where HDF5 reports an error

 private:
  hid_t id_ = -1;
  Close close_ = nullptr;
};

// Keeps HDF5 from printing its errors and from loading filter plugins. To be called before other calls, on every
// thread.
void quiet();

// A fixed-length text as it is stored: marked as ASCII where it is, since some readers stop at UTF-8.
Handle text_type(std::string_view text);

std::string reason();  // the innermost message of the last failed call, e.g. "bad object header checksum"

// The type that an element type has in a file: little-endian, or big-endian as other tools may write it. bf16 lies in
// the file as an unsigned integer of 16 bits.
hid_t little_endian(DType type);
hid_t big_endian(DType type);

// Writing. Throw Error(internal): attributes lie in the object's header, in memory, until the file is closed.
void put_text(hid_t object, const char* name, std::string_view text);    // fixed length, ASCII or UTF-8
void put_integer(hid_t object, const char* name, int64_t value);         // scalar
void put_integers(hid_t object, const char* name, const Shape& values);  // one-dimensional

// Reading. Throw Error(input) with a message that starts with `where` if the attribute is missing or of another type.
std::string get_text(hid_t object, const char* name, const std::string& where);
int64_t get_integer(hid_t object, const char* name, const std::string& where);
std::vector<int64_t> get_integers(hid_t object, const char* name, size_t limit, const std::string& where);
std::vector<std::string> attribute_names(hid_t object, const std::string& where);
bool has_attribute(hid_t object, const char* name);

// Where the object's header lies in its file, which tells objects apart; HADDR_UNDEF where HDF5 reports an error.
haddr_t address_of(hid_t object);

struct Link {
  std::string name;
  bool hard;  // false: a soft, external or user-defined link, which may lead out of the file
};
std::vector<Link> links_of(hid_t group, const std::string& where);  // by name

}  // namespace hone::hdf5
