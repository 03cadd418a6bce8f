// One dataset of a model file, as the writer places it and the reader finds it. Private to this room.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/dtype.h"
#include "tensor/tensor.h"

namespace hone {

enum class Section : uint8_t { text, parameter, run };

constexpr int64_t data_alignment = 64;  // bytes; of every array in the file
constexpr size_t highest_rank = Shape::most;

struct Entry {
  Section section = Section::text;
  std::string owner;  // the parameter's name; empty in other sections
  std::string name;   // "config"; "values"; the name of a run array
  DType dtype = DType::u8;
  Shape shape = {};
  uint64_t bytes = 0;
  uint64_t offset = 0;        // in the file, or in the spill
  bool spilled = false;       // the reader had to unpack it: its bytes lie in the spill instead
  std::string checksum = {};  // of `bytes` bytes

  // "parameter 'blocks.0.norm' dataset 'values'"
  std::string where() const;
};

// Names become HDF5 links, so they have letters, digits, '_' and '-' only.
bool is_component(std::string_view name);  // one link of a path
bool is_run_name(std::string_view name);   // the same with dots

// The bytes of an array of this shape. False where a dimension is negative or the number does not fit.
bool bytes_of(const Shape& shape, DType dtype, uint64_t& bytes);

}  // namespace hone
