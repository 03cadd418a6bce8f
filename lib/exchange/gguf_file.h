// GGUF, version 3: metadata, descriptions of tensors, then their blocks (ggml's documentation of the format).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "exchange/block_types.h"
#include "exchange/mapped_file.h"

namespace hone {

// Whole numbers of every width are int64_t, fractions double. Lists of one kind; lists of lists are not read.
using GgufValue = std::variant<int64_t, double, bool, std::string, std::vector<int64_t>, std::vector<double>,
                               std::vector<std::string>>;

struct GgufTensor {
  std::string name;
  Shape shape;  // rows first, as everywhere in Hone: the file has it in reverse
  const BlockType* type = nullptr;
  uint64_t offset = 0;  // in the data
  uint64_t bytes() const { return type->bytes_of(elements(shape)); }
};

// A file, mapped. Throws Error(input) naming file and place where it is cut short, says sizes that cannot be, has names
// twice, an unknown type, or tensors that lie outside of the file, over one another or unaligned. Memory is bounded by
// the size of the file.
class GgufFile {
 public:
  explicit GgufFile(const std::string& path);

  bool has(const std::string& key) const { return values_.contains(key); }
  // Throw Error(input) where the key is missing or of another kind.
  int64_t integer(const std::string& key) const;
  double number(const std::string& key) const;
  std::string text(const std::string& key) const;
  const std::vector<std::string>& texts(const std::string& key) const;
  const std::vector<int64_t>& integers(const std::string& key) const;
  const std::vector<double>& fractions(const std::string& key) const;
  bool boolean(const std::string& key, bool otherwise) const;
  int64_t integer(const std::string& key, int64_t otherwise) const { return has(key) ? integer(key) : otherwise; }
  double number(const std::string& key, double otherwise) const { return has(key) ? number(key) : otherwise; }

  const std::map<std::string, GgufTensor>& tensors() const { return tensors_; }
  const std::string& where() const { return where_; }  // "'m.gguf'"
  Tensor numbers(const GgufTensor& tensor) const;      // f32; throws Error(input) where they cannot be read
  // Those from number `first` on, as read_blocks().
  int read(const GgufTensor& tensor, int64_t first, std::span<float> to) const {
    return read_blocks(file_, data_ + tensor.offset, *tensor.type, first, to);
  }
  void forget() const { file_.forget(); }

 private:
  template <class T>
  const T& value(const std::string& key, const char* kind) const;

  MappedFile file_;
  std::string where_;
  std::map<std::string, GgufValue> values_;
  std::map<std::string, GgufTensor> tensors_;
  uint64_t data_ = 0;  // where the data begin
};

bool is_gguf(const std::string& path);  // by its first bytes

// What is to be written. Whole numbers are written as u32, but those of lists as i32; fractions as f32.
struct GgufContent {
  std::vector<std::pair<std::string, GgufValue>> values;
  std::vector<GgufTensor> tensors;  // offsets are set here
};
// `numbers(tensor)` gives f32 of its shape, for one tensor after the other. Returns the bytes of the file.
int64_t write_gguf(const std::string& path, bool force, GgufContent content,
                   const std::function<Tensor(const GgufTensor& tensor)>& numbers);

}  // namespace hone
