#include "exchange/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/error.h"
#include "exchange/block_types.h"

namespace hone {
namespace {

struct Type {
  std::string_view name;
  uint64_t bytes;
};
constexpr Type types[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
                          {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
                          {"U32", 4},  {"F32", 4}, {"F64", 8}, {"I64", 8},     {"U64", 8}};

std::optional<uint64_t> bytes_of_type(std::string_view name) {
  for (const Type& type : types)
    if (type.name == name) return type.bytes;
  return std::nullopt;
}

// Reads the header as it comes, so that no tree of it is ever in memory. Depth 1 is the object of tensors, 2 a tensor
// (or __metadata__), 3 its lists; what is deeper belongs to members that nobody needs.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<StoredTensor> tensors;
  std::string problem;

  bool null() override { return value("a null"); }
  bool boolean(bool) override { return value("a boolean"); }
  bool number_integer(number_integer_t) override { return value("a negative number"); }
  bool number_unsigned(number_unsigned_t n) override {
    if (depth_ == 3 && list_ == List::shape) {
      if (n > static_cast<uint64_t>(INT64_MAX)) return fail("a dimension is too large");
      if (tensors.back().shape.size() == Shape::most)
        return fail(fmt::format("a tensor has more than {} dimensions", Shape::most));
      tensors.back().shape.push_back(static_cast<int64_t>(n));
      return true;
    }
    if (depth_ == 3 && list_ == List::offsets) {
      if (offsets_ < 2) (offsets_ == 0 ? tensors.back().begin : tensors.back().end) = n;
      ++offsets_;
      return true;
    }
    return value("a number");
  }
  bool number_float(number_float_t, const string_t&) override { return value("a fraction"); }
  bool string(string_t& text) override {
    if (depth_ == 2 && member_ == Member::type) {
      tensors.back().type = text;
      has_type_ = true;
      return true;
    }
    if (depth_ == 2 && member_ == Member::metadata) return true;
    return value("a string");
  }
  bool binary(binary_t&) override { return fail("binary values"); }
  bool start_object(size_t) override {
    if (++depth_ > 64) return fail("nested too deeply");
    if (depth_ == 1) return true;
    if (depth_ == 2) {
      has_type_ = has_shape_ = has_offsets_ = false;
      return true;
    }
    return unknown() || fail("an object where none belongs");
  }
  bool key(string_t& name) override {
    if (depth_ == 1) {
      metadata_ = name == "__metadata__";
      if (!names_.insert(name).second) return fail(fmt::format("'{}' is there twice", name.substr(0, 100)));
      if (!metadata_) tensors.push_back({name, "", {}});
      return true;
    }
    if (depth_ == 2)
      member_ = metadata_                ? Member::metadata
                : name == "dtype"        ? Member::type
                : name == "shape"        ? Member::shape
                : name == "data_offsets" ? Member::offsets
                                         : Member::other;
    return true;
  }
  bool end_object() override {
    if (depth_ == 2 && !metadata_ && !(has_type_ && has_shape_ && has_offsets_))
      return fail(fmt::format("'{}' lacks dtype, shape or data_offsets", tensors.back().name.substr(0, 100)));
    --depth_;
    return true;
  }
  bool start_array(size_t) override {
    if (++depth_ > 64) return fail("nested too deeply");
    if (depth_ == 3 && member_ == Member::shape && !metadata_) {
      list_ = List::shape;
      tensors.back().shape.clear();
      return has_shape_ = true;
    }
    if (depth_ == 3 && member_ == Member::offsets && !metadata_) {
      list_ = List::offsets;
      offsets_ = 0;
      return has_offsets_ = true;
    }
    list_ = List::other;
    return unknown() || fail("a list where none belongs");
  }
  bool end_array() override {
    if (depth_ == 3 && list_ == List::offsets && offsets_ != 2) return fail("data_offsets are not two numbers");
    if (depth_ == 3) list_ = List::other;
    --depth_;
    return true;
  }
  bool parse_error(size_t at, const std::string&, const nlohmann::json::exception&) override {
    return fail(fmt::format("no JSON at byte {}", at));
  }

 private:
  enum class Member { type, shape, offsets, metadata, other };
  enum class List { shape, offsets, other };

  bool fail(std::string what) {
    problem = std::move(what);
    return false;
  }
  // Within a member of a tensor that is not ours.
  bool unknown() const { return depth_ >= 3 && !metadata_ && member_ == Member::other; }
  bool value(const char* what) {
    if (depth_ >= 2 && !metadata_ && member_ == Member::other) return true;
    return fail(fmt::format("{} where none belongs", what));
  }

  std::set<std::string, std::less<>> names_;
  int depth_ = 0, offsets_ = 0;
  bool metadata_ = false, has_type_ = false, has_shape_ = false, has_offsets_ = false;
  Member member_ = Member::other;
  List list_ = List::other;
};

void check_places(const std::vector<StoredTensor>& tensors, uint64_t data_bytes, const std::string& where) {
  uint64_t at = 0;
  for (const StoredTensor& t : tensors) {
    const auto bad = [&](std::string_view what) {
      return input_error("{}: tensor '{}' {}; use another copy", where, t.name, what);
    };
    const auto unit = bytes_of_type(t.type);
    if (!unit) throw input_error("{}: tensor '{}' has the unknown type '{}'", where, t.name, t.type.substr(0, 100));
    uint64_t needed = *unit;
    for (const int64_t n : t.shape)
      if (__builtin_mul_overflow(needed, static_cast<uint64_t>(n), &needed)) throw bad("is larger than any file");
    if (t.begin != at) throw bad(t.begin < at ? "lies over another" : "leaves a gap before it");
    if (t.end < t.begin || t.end - t.begin != needed) throw bad("has another size than its type and shape need");
    at = t.end;
  }
  if (at != data_bytes)
    throw input_error("{}: {} bytes of data where the header tells of {}; use another copy", where, data_bytes, at);
}

}  // namespace

std::vector<StoredTensor> parse_safetensors_header(std::string_view header, std::optional<uint64_t> data_bytes,
                                                   const std::string& where) {
  HeaderReader reader;
  const bool object = header.starts_with('{');
  if (!object || !nlohmann::json::sax_parse(header, &reader))
    throw input_error("{}: the header is no description of tensors ({}); use another copy", where,
                      object ? reader.problem : "it does not begin with '{'");
  std::vector<StoredTensor>& tensors = reader.tensors;
  std::stable_sort(tensors.begin(), tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  check_places(tensors, data_bytes.value_or(tensors.empty() ? 0 : tensors.back().end), where);
  return std::move(tensors);
}

SafetensorsFile::SafetensorsFile(const std::string& path, MappedFile::Descriptors kept) : file_(path, kept) {
  const std::span<const std::byte> all = file_.bytes();
  const std::string where = fmt::format("'{}'", path);
  uint64_t length = 0;
  if (all.size() < sizeof length) throw input_error("{} is too short for a safetensors file", where);
  std::memcpy(&length, all.data(), sizeof length);
  if (length > most_header_bytes)
    throw input_error("{} is no safetensors file: its header would have {} bytes, more than {}", where, length,
                      most_header_bytes);
  if (length > all.size() - sizeof length)
    throw input_error("{} is cut short: its header has {} bytes, the file {}", where, length, all.size());
  header_ = {reinterpret_cast<const char*>(all.data()) + sizeof length, static_cast<size_t>(length)};
  data_ = sizeof length + length;
  tensors_ = parse_safetensors_header(header_, all.size() - data_, where);
}

int SafetensorsFile::read(const StoredTensor& tensor, int64_t first, std::span<float> to) const {
  return read_blocks(file_, data_ + tensor.begin, block_type_named(option_of(number_type_of(tensor, ""))), first, to);
}

void SafetensorsFile::decode(const StoredTensor& tensor, int64_t first, std::span<float> to) const {
  constexpr uint64_t most = uint64_t{32} << 20;
  const NumberType type = number_type_of(tensor, "");
  const std::byte* const numbers = file_.bytes().data() + data_ + tensor.begin;
  decode_numbers(numbers + static_cast<uint64_t>(first) * size_of(type), type, to);
  if ((decoded_ += to.size_bytes()) < most) return;
  decoded_ = 0;
  forget();
}

NumberType number_type_of(const StoredTensor& tensor, const std::string& where) {
  for (const NumberType type : {NumberType::f32, NumberType::f16, NumberType::bf16})
    if (tensor.type == name_of(type)) return type;
  throw input_error("{}: tensor '{}' is of type {}; weights are read as F32, F16 or BF16", where, tensor.name,
                    tensor.type);
}

std::string make_safetensors_header(std::vector<StoredTensor>& tensors) {
  nlohmann::ordered_json object = {{"__metadata__", {{"format", "pt"}}}};
  uint64_t at = 0;
  for (StoredTensor& t : tensors) {
    t.begin = at;
    at = t.end = t.begin + bytes_of_type(t.type).value() * static_cast<uint64_t>(elements(t.shape));
    object[t.name] = {{"dtype", t.type}, {"shape", t.shape}, {"data_offsets", {t.begin, t.end}}};
  }
  std::string header = object.dump();
  header.append((8 - header.size() % 8) % 8, ' ');
  return header;
}

void write_safetensors(const std::string& path, bool force, std::string_view header,
                       const std::vector<StoredTensor>& tensors,
                       const std::function<void(const StoredTensor& tensor, OutputFile& file)>& write) {
  OutputFile file(path, force);
  const uint64_t length = header.size();
  file.write(&length, sizeof length);
  file.write(header.data(), header.size());
  const uint64_t data = file.written();
  for (const StoredTensor& tensor : tensors) {
    write(tensor, file);
    if (file.written() != data + tensor.end) throw internal_error("'{}' is not written where it belongs", tensor.name);
  }
  file.commit();
}

}  // namespace hone
