#include "exchange/gguf_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>

#include "base/error.h"
#include "exchange/numbers.h"

namespace hone {
namespace {

constexpr uint32_t magic = 0x46554747;  // "GGUF"
constexpr uint64_t usual_alignment = 32;
constexpr const char* alignment_key = "general.alignment";

enum Kind : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean_kind, text_kind, list_kind, u64, i64, f64 };

// Walks through the bytes; never beyond their end.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  template <class T>
  T take() {
    T value;
    need(sizeof value);
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::string text() {
    const auto length = take<uint64_t>();
    need(length);
    std::string text(reinterpret_cast<const char*>(bytes_.data()) + at_, length);
    at_ += length;
    return text;
  }
  // That `count` things of at least `least` bytes each can be there.
  void need_all(uint64_t count, uint64_t least) const {
    if (count > (bytes_.size() - at_) / least) throw cut();
  }
  uint64_t at() const { return at_; }
  Error cut() const { return input_error("{} is cut short or damaged at byte {}", where_, at_); }

 private:
  void need(uint64_t bytes) const {
    if (bytes > bytes_.size() - at_) throw cut();
  }
  std::span<const std::byte> bytes_;
  const std::string& where_;
  uint64_t at_ = 0;
};

bool whole(uint32_t kind) {
  return kind <= i32 || kind == u64 || kind == i64;
}

int64_t take_whole(Cursor& from, uint32_t kind) {
  switch (kind) {
    case u8:
      return from.take<uint8_t>();
    case i8:
      return from.take<int8_t>();
    case u16:
      return from.take<uint16_t>();
    case i16:
      return from.take<int16_t>();
    case u32:
      return from.take<uint32_t>();
    case i32:
      return from.take<int32_t>();
    case u64:
      return static_cast<int64_t>(std::min<uint64_t>(from.take<uint64_t>(), INT64_MAX));
    default:
      return from.take<int64_t>();
  }
}

uint64_t least_bytes(uint32_t kind) {
  return kind == u16 || kind == i16                                       ? 2
         : kind == u32 || kind == i32 || kind == f32                      ? 4
         : kind == u64 || kind == i64 || kind == f64 || kind == text_kind ? 8
                                                                          : 1;
}

GgufValue take_list(Cursor& from, const std::string& key, const std::string& where) {
  const auto kind = from.take<uint32_t>();
  const auto count = from.take<uint64_t>();
  from.need_all(count, least_bytes(kind));
  const auto fill = [&]<class T>(std::vector<T> list, auto&& take) -> GgufValue {
    list.reserve(count);
    for (uint64_t i = 0; i < count; ++i) list.push_back(take());
    return list;
  };
  if (kind == text_kind) return fill(std::vector<std::string>(), [&] { return from.text(); });
  if (kind == f32) return fill(std::vector<double>(), [&] { return static_cast<double>(from.take<float>()); });
  if (kind == f64) return fill(std::vector<double>(), [&] { return from.take<double>(); });
  if (kind == boolean_kind)
    return fill(std::vector<int64_t>(), [&] { return static_cast<int64_t>(from.take<uint8_t>() != 0); });
  if (whole(kind)) return fill(std::vector<int64_t>(), [&] { return take_whole(from, kind); });
  throw input_error("{}: '{}' is a list of an unknown kind ({})", where, key, kind);
}

GgufValue take_value(Cursor& from, const std::string& key, const std::string& where) {
  const auto kind = from.take<uint32_t>();
  if (whole(kind)) return take_whole(from, kind);
  if (kind == f32) return static_cast<double>(from.take<float>());
  if (kind == f64) return from.take<double>();
  if (kind == boolean_kind) return from.take<uint8_t>() != 0;
  if (kind == text_kind) return from.text();
  if (kind == list_kind) return take_list(from, key, where);
  throw input_error("{}: '{}' is of an unknown kind ({})", where, key, kind);
}

GgufTensor take_tensor(Cursor& from, const std::string& where) {
  GgufTensor tensor;
  tensor.name = from.text();
  const auto rank = from.take<uint32_t>();
  if (rank < 1 || rank > 4) throw input_error("{}: tensor '{}' has {} dimensions", where, tensor.name, rank);
  uint64_t count = 1;
  for (uint32_t i = 0; i < rank; ++i) {
    const auto n = from.take<uint64_t>();
    if (n < 1 || __builtin_mul_overflow(count, n, &count) || count > uint64_t{1} << 48)
      throw input_error("{}: tensor '{}' is larger than any file, or empty", where, tensor.name);
    tensor.shape.push_front(static_cast<int64_t>(n));
  }
  const auto number = from.take<uint32_t>();
  tensor.type = block_type_of(number);
  if (!tensor.type) {
    std::string known;
    for (const BlockType& t : block_types()) known += fmt::format("{}{}", known.empty() ? "" : ", ", t.name);
    throw input_error("{}: tensor '{}' is of the type {}, which is not read; read are {}", where, tensor.name, number,
                      known);
  }
  if (tensor.shape.back() % tensor.type->block)
    throw input_error("{}: rows of tensor '{}' are no whole blocks", where, tensor.name);
  tensor.offset = from.take<uint64_t>();
  return tensor;
}

uint64_t aligned(uint64_t at, uint64_t alignment) {
  return (at + alignment - 1) / alignment * alignment;
}

void check_places(const std::map<std::string, GgufTensor>& tensors, uint64_t alignment, uint64_t bytes,
                  const std::string& where) {
  std::vector<const GgufTensor*> order;
  for (const auto& [name, tensor] : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->offset < b->offset; });
  uint64_t end = 0;
  for (const GgufTensor* t : order) {
    if (t->offset < end || t->offset % alignment)
      throw input_error("{}: tensor '{}' lies over another, or unaligned", where, t->name);
    if (t->offset > bytes || t->bytes() > bytes - t->offset)
      throw input_error("{} is cut short: tensor '{}' lies beyond its end", where, t->name);
    end = t->offset + t->bytes();
  }
}

}  // namespace

GgufFile::GgufFile(const std::string& path) : file_(path), where_(fmt::format("'{}'", path)) {
  Cursor from(file_.bytes(), where_);
  if (from.take<uint32_t>() != magic) throw input_error("{} is no GGUF file", where_);
  if (const auto version = from.take<uint32_t>(); version != 2 && version != 3)
    throw input_error("{} is of version {} of GGUF; read are 2 and 3", where_, version);
  const auto tensors = from.take<uint64_t>(), values = from.take<uint64_t>();
  from.need_all(values, 12);
  from.need_all(tensors, 24);
  for (uint64_t i = 0; i < values; ++i) {
    const std::string key = from.text();
    if (!values_.emplace(key, take_value(from, key, where_)).second)
      throw input_error("{}: '{}' is there twice", where_, key);
  }
  for (uint64_t i = 0; i < tensors; ++i) {
    GgufTensor tensor = take_tensor(from, where_);
    const std::string name = tensor.name;
    if (!tensors_.emplace(name, std::move(tensor)).second)
      throw input_error("{}: tensor '{}' is there twice", where_, name);
  }
  const int64_t alignment = integer(alignment_key, usual_alignment);
  if (alignment < 8 || alignment > 65536 || (alignment & (alignment - 1)))
    throw input_error("{}: an alignment of {} cannot be", where_, alignment);
  data_ = aligned(from.at(), static_cast<uint64_t>(alignment));
  const uint64_t size = file_.bytes().size();
  check_places(tensors_, static_cast<uint64_t>(alignment), data_ < size ? size - data_ : 0, where_);
}

template <class T>
const T& GgufFile::value(const std::string& key, const char* kind) const {
  const auto found = values_.find(key);
  if (found == values_.end()) throw input_error("{} has no '{}'", where_, key);
  const T* value = std::get_if<T>(&found->second);
  if (!value) throw input_error("{}: '{}' is not {}", where_, key, kind);
  return *value;
}

int64_t GgufFile::integer(const std::string& key) const {
  const int64_t n = value<int64_t>(key, "a whole number");
  if (n < 0 || n > int64_t{1} << 40) throw input_error("{}: '{}' is {}", where_, key, n);
  return n;
}

double GgufFile::number(const std::string& key) const {
  return value<double>(key, "a number");
}

std::string GgufFile::text(const std::string& key) const {
  return value<std::string>(key, "a text");
}

const std::vector<std::string>& GgufFile::texts(const std::string& key) const {
  return value<std::vector<std::string>>(key, "a list of texts");
}

const std::vector<int64_t>& GgufFile::integers(const std::string& key) const {
  return value<std::vector<int64_t>>(key, "a list of whole numbers");
}

const std::vector<double>& GgufFile::fractions(const std::string& key) const {
  return value<std::vector<double>>(key, "a list of numbers");
}

bool GgufFile::boolean(const std::string& key, bool otherwise) const {
  return has(key) ? value<bool>(key, "true or false") : otherwise;
}

Tensor GgufFile::numbers(const GgufTensor& tensor) const {
  const Tensor made = Tensor::empty(tensor.shape);
  if (const int error = read(tensor, 0, made.span<float>()))
    throw input_error("{}: tensor '{}' cannot be read: {}", where_, tensor.name, std::strerror(error));
  return made;
}

bool is_gguf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  uint32_t first = 0;
  return file.read(reinterpret_cast<char*>(&first), sizeof first) && first == magic;
}

namespace {

class Bytes {
 public:
  template <class T>
  void put(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void text(const std::string& text) {
    put<uint64_t>(text.size());
    text_ += text;
  }
  void pad(uint64_t alignment) { text_.resize(aligned(text_.size(), alignment), '\0'); }
  const std::string& all() const { return text_; }

  void value(const GgufValue& value) {
    std::visit([this](const auto& v) { one(v); }, value);
  }

 private:
  void one(int64_t n) {
    put<uint32_t>(u32);
    put(static_cast<uint32_t>(n));
  }
  void one(double x) {
    put<uint32_t>(f32);
    put(static_cast<float>(x));
  }
  void one(bool b) {
    put<uint32_t>(boolean_kind);
    put(static_cast<uint8_t>(b));
  }
  void one(const std::string& t) {
    put<uint32_t>(text_kind);
    text(t);
  }
  void list(Kind kind, size_t count) {
    put<uint32_t>(list_kind);
    put<uint32_t>(kind);
    put<uint64_t>(count);
  }
  void one(const std::vector<int64_t>& all) {
    list(i32, all.size());
    for (const int64_t n : all) put(static_cast<int32_t>(n));
  }
  void one(const std::vector<double>& all) {
    list(f32, all.size());
    for (const double x : all) put(static_cast<float>(x));
  }
  void one(const std::vector<std::string>& all) {
    list(text_kind, all.size());
    for (const std::string& t : all) text(t);
  }
  std::string text_;
};

}  // namespace

int64_t write_gguf(const std::string& path, bool force, GgufContent content,
                   const std::function<Tensor(const GgufTensor& tensor)>& numbers) {
  Bytes head;
  head.put(magic);
  head.put<uint32_t>(3);
  head.put<uint64_t>(content.tensors.size());
  head.put<uint64_t>(content.values.size());
  for (const auto& [key, value] : content.values) {
    head.text(key);
    head.value(value);
  }
  uint64_t at = 0;
  for (GgufTensor& tensor : content.tensors) {
    tensor.offset = at;
    at = aligned(at + tensor.bytes(), usual_alignment);
    head.text(tensor.name);
    head.put(static_cast<uint32_t>(tensor.shape.size()));
    for (size_t i = tensor.shape.size(); i-- > 0;) head.put(static_cast<uint64_t>(tensor.shape[i]));
    head.put(tensor.type->number);
    head.put(tensor.offset);
  }
  head.pad(usual_alignment);
  OutputFile file(path, force);
  file.write(head.all().data(), head.all().size());
  std::vector<std::byte> bytes;
  for (const GgufTensor& tensor : content.tensors) {
    in_pieces(numbers(tensor), [&](std::span<const float> piece) {
      bytes.resize(tensor.type->bytes_of(static_cast<int64_t>(piece.size())));
      encode_blocks(*tensor.type, piece, bytes.data());
      file.write(bytes.data(), bytes.size());
    });
    bytes.assign(aligned(tensor.bytes(), usual_alignment) - tensor.bytes(), std::byte{0});
    file.write(bytes.data(), bytes.size());
  }
  file.commit();
  return static_cast<int64_t>(file.written());
}

}  // namespace hone
