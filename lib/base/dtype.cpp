#include "base/dtype.h"

#include <array>

#include "base/error.h"

namespace hone {
namespace {

struct Row {
  DType type;
  size_t size;
  std::string_view name;
};

constexpr std::array<Row, 8> table = {{{DType::f32, 4, "f32"},
                                       {DType::bf16, 2, "bf16"},
                                       {DType::i8, 1, "i8"},
                                       {DType::u8, 1, "u8"},
                                       {DType::i32, 4, "i32"},
                                       {DType::u32, 4, "u32"},
                                       {DType::i64, 8, "i64"},
                                       {DType::u64, 8, "u64"}}};

}  // namespace

size_t size_of(DType type) {
  return table[static_cast<size_t>(type)].size;
}

std::string_view name_of(DType type) {
  return table[static_cast<size_t>(type)].name;
}

DType dtype_named(std::string_view name) {
  for (const Row& row : table)
    if (row.name == name) return row.type;
  throw input_error("unknown element type '{}'", name);
}

}  // namespace hone
