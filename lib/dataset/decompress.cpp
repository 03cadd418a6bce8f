#include "dataset/decompress.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>

#include "base/error.h"
#include "base/units.h"

namespace hone {
namespace {

constexpr size_t first_room = size_t{1} << 20;
constexpr size_t most_at_once = size_t{1} << 30;  // zlib counts in 32 bits

// Text that grows. realloc moves pages of a large block instead of copying them: there is never a second copy.
class Growing {
 public:
  Growing(const std::string& name, uint64_t most) : name_(name), most_(most) {}
  ~Growing() { std::free(text_); }
  Growing(const Growing&) = delete;
  Growing& operator=(const Growing&) = delete;

  char* end() const { return text_ + size_; }
  size_t room() const { return room_ - size_; }
  void add(size_t count) { size_ += count; }

  void make_room() {
    if (room() > 0) return;
    if (room_ >= most_) refuse();
    const uint64_t wanted = std::max<uint64_t>(first_room, room_ + room_ / 2);
    resize(static_cast<size_t>(std::min(wanted, most_)));
  }

  OwnedText finish() {
    if (size_ == 0) return {};
    resize(size_);
    std::shared_ptr<const void> owner(text_, [](const void* p) { std::free(const_cast<void*>(p)); });
    const std::string_view text(text_, size_);
    text_ = nullptr;
    return {text, std::move(owner)};
  }

 private:
  [[noreturn]] void refuse() const {
    throw input_error(
        "{} holds more than {} of text, which is more than the memory that is free: decompress it to a file, which is "
        "mapped and not read",
        in_message(name_), format_bytes(static_cast<double>(size_)));
  }
  void resize(size_t room) {
    void* moved = std::realloc(text_, room);
    if (!moved) refuse();
    text_ = static_cast<char*>(moved);
    room_ = room;
  }

  const std::string& name_;
  uint64_t most_;
  char* text_ = nullptr;
  size_t size_ = 0, room_ = 0;
};

[[noreturn]] void refuse(std::string_view kind, const std::string& name, std::string_view why) {
  throw input_error("{}: its {} data {}: fetch or compress it again", in_message(name), kind, why);
}

bool only_zeros(std::string_view rest) {
  return rest.find_first_not_of('\0') == rest.npos;
}

class Inflate {
 public:
  Inflate() {
    if (inflateInit2(&stream_, 15 + 16) != Z_OK) throw std::bad_alloc();  // the largest window; gzip's frame
  }
  ~Inflate() { inflateEnd(&stream_); }
  Inflate(const Inflate&) = delete;
  Inflate& operator=(const Inflate&) = delete;

  // Of `rest`, takes what was read off its front. Z_OK, or what zlib says.
  int step(std::string_view& rest, Growing& text) {
    const size_t in = std::min(rest.size(), most_at_once), out = std::min(text.room(), most_at_once);
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(rest.data()));
    stream_.avail_in = static_cast<uInt>(in);
    stream_.next_out = reinterpret_cast<Bytef*>(text.end());
    stream_.avail_out = static_cast<uInt>(out);
    const int result = inflate(&stream_, Z_NO_FLUSH);
    rest.remove_prefix(in - stream_.avail_in);
    text.add(out - stream_.avail_out);
    return result;
  }
  void restart() { inflateReset(&stream_); }

 private:
  z_stream stream_ = {};
};

void gunzip(std::string_view rest, const std::string& name, Growing& text) {
  Inflate inflate;
  for (;;) {
    text.make_room();
    const int result = inflate.step(rest, text);
    if (result == Z_STREAM_END) {
      if (only_zeros(rest)) return;
      if (!rest.starts_with("\x1f\x8b")) refuse("gzip", name, "is followed by something else");
      inflate.restart();
    } else if (result == Z_MEM_ERROR) {
      throw std::bad_alloc();
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      refuse("gzip", name, "is damaged");
    } else if (rest.empty() && text.room() > 0) {
      refuse("gzip", name, "ends in the middle");
    }
  }
}

void unpack_zstd(std::string_view rest, const std::string& name, Growing& text) {
  const std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(), ZSTD_freeDCtx);
  if (!context) throw std::bad_alloc();
  for (;;) {
    text.make_room();
    ZSTD_inBuffer in = {rest.data(), rest.size(), 0};
    ZSTD_outBuffer out = {text.end(), text.room(), 0};
    const size_t result = ZSTD_decompressStream(context.get(), &out, &in);
    if (ZSTD_isError(result)) {
      const std::string_view why = ZSTD_getErrorName(result);
      if (why.find("memory") != why.npos)
        throw input_error("{} was compressed with a long window: decompress it to a file with 'zstd -d --long=31'",
                          in_message(name));
      refuse("zstd", name, fmt::format("is damaged ({})", why));
    }
    text.add(out.pos);
    rest.remove_prefix(in.pos);
    if (result == 0 && only_zeros(rest)) return;
    if (result != 0 && rest.empty() && text.room() > 0) refuse("zstd", name, "ends in the middle");
  }
}

}  // namespace

OwnedText decompress(Compression compression, std::string_view packed, const std::string& name, uint64_t most) {
  Growing text(name, most);
  if (compression == Compression::gzip)
    gunzip(packed, name, text);
  else
    unpack_zstd(packed, name, text);
  return text.finish();
}

uint64_t free_memory() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("MemAvailable:")) return std::strtoull(line.c_str() + 13, nullptr, 10) * 1024;
  return std::numeric_limits<uint64_t>::max();
}

}  // namespace hone
