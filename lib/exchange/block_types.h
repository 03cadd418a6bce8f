// Numbers in blocks, as ggml stores them: a type is a name, a size and how a block becomes f32 and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "exchange/mapped_file.h"

namespace hone {

struct BlockType {
  std::string_view name;  // "q8_0"
  uint32_t number;        // in files
  int64_t block;          // numbers of a block,
  uint64_t bytes;         // and its bytes
  uint32_t file_type;     // of a file whose matrices are of this type
  void (*decode)(const std::byte* block, float* to);
  void (*encode)(const float* from, std::byte* block);  // null: is only read

  uint64_t bytes_of(int64_t numbers) const { return static_cast<uint64_t>(numbers / block) * bytes; }
};

std::span<const BlockType> block_types();
const BlockType* block_type_of(uint32_t number);           // null: unknown
const BlockType& block_type_named(std::string_view name);  // Error(internal)

// All blocks of an array, on all threads.
void decode_blocks(const BlockType& type, const std::byte* from, std::span<float> to);
// Numbers of an array that lies at byte `at` of a file, those from number `first` on. By the calling thread alone: by
// several at once, as MappedFile::read(), whose errno it returns.
int read_blocks(const MappedFile& file, uint64_t at, const BlockType& type, int64_t first, std::span<float> to);
void encode_blocks(const BlockType& type, std::span<const float> from, std::byte* to);

}  // namespace hone
