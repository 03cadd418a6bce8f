// safetensors: a JSON header that names tensors and their places, then their bytes (huggingface/safetensors).
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "exchange/mapped_file.h"
#include "exchange/numbers.h"

namespace hone {

struct StoredTensor {
  std::string name, type;  // "F32", "BF16", "I64", …
  Shape shape;
  uint64_t begin = 0, end = 0;  // in the data
};

// The tensors that a header describes, by their place. What the format's own reader refuses is refused: a header that
// is no UTF-8, no JSON object of tensors, names one twice or has a type that is unknown; places that overlap, leave
// gaps, or are not the size that type and shape need; data that end elsewhere than `data_bytes`. Throws Error(input)
// naming `where`. Takes memory in proportion to the header. Without `data_bytes`, data end where the last tensor does.
std::vector<StoredTensor> parse_safetensors_header(std::string_view header, std::optional<uint64_t> data_bytes,
                                                   const std::string& where);

// A file, mapped.
class SafetensorsFile {
 public:
  static constexpr uint64_t most_header_bytes = 100'000'000;

  // Throws Error(input).
  explicit SafetensorsFile(const std::string& path, MappedFile::Descriptors kept = MappedFile::Descriptors::one);
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  std::string_view header() const { return header_; }
  // Bytes of a tensor from byte `first` on, as MappedFile::read().
  int read_bytes(const StoredTensor& tensor, uint64_t first, std::span<std::byte> to) const {
    return file_.read(data_ + tensor.begin + first, to);
  }
  // Numbers of a tensor from number `first` on, as read_blocks(). Of a type that number_type_of() takes.
  int read(const StoredTensor& tensor, int64_t first, std::span<float> to) const;
  // The same out of the mapping, for ranges so short that a call of the system for each would take longer than pages.
  // Every 32 MB the pages leave memory.
  void decode(const StoredTensor& tensor, int64_t first, std::span<float> to) const;
  void forget() const { file_.forget(); }

 private:
  MappedFile file_;
  mutable std::atomic<uint64_t> decoded_{0};  // bytes since pages left memory
  std::string_view header_;
  uint64_t data_ = 0;  // where the data begin
  std::vector<StoredTensor> tensors_;
};

// The type of numbers, where it is one that Hone computes with. Throws Error(input) naming `where`.
NumberType number_type_of(const StoredTensor& tensor, const std::string& where);

// A header for these tensors, one behind the other in this order, whose places it sets; padded with spaces so that data
// begin at a multiple of 8 bytes.
std::string make_safetensors_header(std::vector<StoredTensor>& tensors);

// Writes header and data; `write(tensor, file)` adds the bytes of one tensor after the other, by place.
void write_safetensors(const std::string& path, bool force, std::string_view header,
                       const std::vector<StoredTensor>& tensors,
                       const std::function<void(const StoredTensor& tensor, OutputFile& file)>& write);

}  // namespace hone
