#include "exchange/llama2c.h"

#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>

#include "base/error.h"
#include "base/spelling.h"
#include "exchange/architectures/llama_gguf.h"
#include "exchange/assemble.h"
#include "exchange/block_types.h"
#include "exchange/mapped_file.h"

namespace hone {
namespace {

constexpr uint32_t magic = 0x616b3432;  // "ak42", of version 1 on
constexpr uint64_t new_header_bytes = 256;
constexpr int32_t most = 1 << 24;

// The sizes of a file, and where its numbers begin.
struct Header {
  int32_t dim = 0, ffn = 0, layers = 0, heads = 0, kv_heads = 0, vocabulary = 0, context = 0;
  bool tied = true;
  bool old = true;    // version 0: other order, and rotary tables that nobody needs
  int32_t group = 0;  // version 2: so many numbers of a matrix share a scale; 0: all numbers are f32
  uint64_t bytes = 28;
};

template <class T>
T number_at(std::span<const std::byte> bytes, uint64_t at, const std::string& where) {
  if (bytes.size() < at + sizeof(T)) throw input_error("{} ends in its header", where);
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

Header read_header(std::span<const std::byte> bytes, const std::string& where) {
  Header h;
  uint64_t at = 0;
  if (number_at<uint32_t>(bytes, 0, where) == magic) {
    const auto version = number_at<int32_t>(bytes, 4, where);
    if (version != 1 && version != 2)
      throw input_error("{}: version {} of llama2.c's format is not read", where, version);
    h.old = false;
    if (version == 2) {
      h.group = number_at<int32_t>(bytes, 37, where);  // behind the byte that says whether the head is tied
      if (h.group < 1 || h.group > most)
        throw input_error("{}: 'group_size' is {}: no model of llama2.c", where, h.group);
    }
    h.bytes = new_header_bytes;
    at = 8;
  }
  int32_t* const sizes[] = {&h.dim, &h.ffn, &h.layers, &h.heads, &h.kv_heads, &h.vocabulary, &h.context};
  const char* const names[] = {"dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "max_seq_len"};
  for (size_t i = 0; i < std::size(sizes); ++i) {
    *sizes[i] = number_at<int32_t>(bytes, at + 4 * i, where);
    if (h.old && sizes[i] == &h.vocabulary && h.vocabulary < 0 && h.vocabulary >= -most) {
      h.tied = false;
      h.vocabulary = -h.vocabulary;
    }
    if (*sizes[i] < 1 || *sizes[i] > most)
      throw input_error("{}: '{}' is {}: no model of llama2.c", where, names[i], *sizes[i]);
  }
  if (!h.old) h.tied = number_at<uint8_t>(bytes, 36, where) != 0;
  if (h.dim % h.heads || h.layers > 4096)
    throw input_error("{}: dim {}, {} heads and {} layers are no model of llama2.c", where, h.dim, h.heads, h.layers);
  return h;
}

Config config_of(const Header& h) {
  Config c;
  c.vocabulary = c.padded_vocabulary = h.vocabulary;
  c.context = h.context;
  c.tied = h.tied;
  c.block.dim = h.dim;
  c.block.head_dim = h.dim / h.heads;
  c.layers.assign(static_cast<size_t>(h.layers), {h.heads, h.kv_heads, h.ffn, "full"});
  return c;
}

// Tensors by the names that GGUF has for them: both keep heads as the first Llama did, with pairs of neighbours.
class Places {
 public:
  Places(const Header& h, const std::string& where, uint64_t file_bytes)
      : layers_(h.layers), group_(h.group), where_(where), at_(h.bytes) {
    const int64_t dim = h.dim, ffn = h.ffn, head_dim = dim / h.heads, keys = h.kv_heads * head_dim;
    const Shape table = {h.vocabulary, dim};
    if (h.old) {
      add("token_embd", table);
      add_each("attn_norm", {dim});
    } else {
      add_each("attn_norm", {dim});
      add_each("ffn_norm", {dim});
      add("output_norm", {dim});
      add("token_embd", table);
    }
    add_each("attn_q", {dim, dim});
    add_each("attn_k", {keys, dim});
    add_each("attn_v", {keys, dim});
    add_each("attn_output", {dim, dim});
    if (h.old) add_each("ffn_norm", {dim});
    add_each("ffn_gate", {ffn, dim});
    add_each("ffn_down", {dim, ffn});
    add_each("ffn_up", {ffn, dim});
    if (h.old) {
      add("output_norm", {dim});
      skip({h.context, head_dim});  // cosines, then sines
    }
    if (!h.tied) add("output", table);
    if (at_ != static_cast<double>(file_bytes))
      throw input_error("{} has {} bytes where its header tells of {:.0f}", where, file_bytes, at_);
  }

  struct Place {
    uint64_t at;
    Shape shape;
    int64_t group;  // 0: f32; else bytes with signs, then the f32 scale of each group of them, rows or not
  };
  const Place& of(const std::string& tensor) const { return places_.at(tensor); }

 private:
  static double count(const Shape& shape) {  // as double: hostile sizes overflow nothing
    double numbers = 1;
    for (const int64_t n : shape) numbers *= static_cast<double>(n);
    return numbers;
  }
  void skip(const Shape& shape) { at_ += 4 * count(shape); }
  void add(const std::string& name, const Shape& shape) {
    const int64_t group = shape.size() < 2 ? 0 : group_;  // norms stay f32
    places_[name + ".weight"] = {static_cast<uint64_t>(std::min(at_, 1e18)), shape, group};
    if (group == 0) return skip(shape);
    const double numbers = count(shape), each = static_cast<double>(group);
    if (std::fmod(numbers, each) != 0)
      throw input_error("{}: the {:.0f} numbers of a matrix are no whole groups of {}", where_, numbers, group);
    at_ += numbers + 4 * (numbers / each);
  }
  void add_each(const char* name, const Shape& shape) {
    for (int64_t i = 0; i < layers_; ++i) add(fmt::format("blk.{}.{}", i, name), shape);
  }

  int64_t layers_, group_;
  std::string where_;
  double at_;
  std::map<std::string, Place> places_;
};

// Of version 2: a number is its code times the scale of its group.
int read_groups(const MappedFile& file, const Places::Place& place, int64_t first, std::span<float> to) {
  std::array<int8_t, 4096> codes;
  std::array<float, codes.size()> scales;  // of the groups that they are in: no more than codes
  const uint64_t all_scales = place.at + static_cast<uint64_t>(elements(place.shape));
  while (!to.empty()) {
    const size_t count = std::min(codes.size(), to.size());
    const int64_t last = first + static_cast<int64_t>(count), group = first / place.group;
    const auto groups = static_cast<size_t>((last - 1) / place.group + 1 - group);
    const auto some_codes = std::span(codes).first(count);
    const auto some_scales = std::span(scales).first(groups);
    int error = file.read(place.at + static_cast<uint64_t>(first), std::as_writable_bytes(some_codes));
    if (error == 0)
      error = file.read(all_scales + 4 * static_cast<uint64_t>(group), std::as_writable_bytes(some_scales));
    if (error != 0) return error;
    size_t i = 0;
    for (size_t g = 0; g < groups; ++g) {
      const int64_t end = std::min((group + static_cast<int64_t>(g) + 1) * place.group, last) - first;
      for (; i < static_cast<size_t>(end); ++i) to[i] = static_cast<float>(codes[i]) * scales[g];
    }
    to = to.subspan(count);
    first = last;
  }
  return 0;
}

// What is shared by all that read tensors of one model.
struct Source {
  MappedFile file;
  std::unique_ptr<Places> places = {};

  int read(const Part& part, int64_t first, std::span<float> to) const {
    const Places::Place& place = places->of(part.tensor);
    if (place.group > 0) return read_groups(file, place, first, to);
    return read_blocks(file, place.at, block_type_named("f32"), first, to);
  }
};

}  // namespace

bool is_llama2c(const std::string& path) {
  if (!path.ends_with(".bin")) return false;
  char first[4] = {};
  std::ifstream(path, std::ios::binary).read(first, sizeof first);
  return std::memcmp(first, "\x89HDF", sizeof first) != 0;
}

Imported import_llama2c(const std::string& path) {
  const std::string where = fmt::format("'{}'", path);
  auto source = std::make_shared<Source>(Source{MappedFile(path)});
  const Header header = read_header(source->file.bytes(), where);
  source->places = std::make_unique<Places>(header, where, source->file.bytes().size());
  const Config config = config_of(header);
  try {
    check(config);
  } catch (const Error& error) {
    throw input_error("{}: {}", where, error.what());
  }
  PromisedParameters parameters;
  for (const ParameterShape& p : parameter_shapes(config)) {
    const Parts parts = llama_gguf.parts(config, p.info);
    for (const Part& part : parts.parts)
      if (source->places->of(part.tensor).shape != part.shape)
        throw internal_error("'{}' of llama2.c has shape {}", part.tensor, to_string(part.shape));
    parameters.add(p, parts);
  }
  Imported imported;
  imported.file.config = to_json(config);
  std::move(parameters).into(imported, [source](const Part& part, int64_t first, std::span<float> to) {
    return source->read(part, first, to);
  });
  imported.what = fmt::format("llama2.c, {}", counted(config.layers.size(), "layer"));
  return imported;
}

}  // namespace hone
