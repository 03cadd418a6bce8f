#include "media/idx.h"

#include <zlib.h>

#include <filesystem>
#include <memory>

#include "base/error.h"
#include "base/spelling.h"

namespace hone::media {
namespace {

// Of a file that is gzip or not.
class Bytes {
 public:
  explicit Bytes(const std::string& path) : path_(path), file_(gzopen(path.c_str(), "rb"), gzclose) {
    if (!std::filesystem::is_regular_file(path)) throw input_error("'{}' does not exist, or is not a file", path);
    if (!file_) throw input_error("'{}' cannot be opened", path);
  }
  // As many as there are of `count`.
  size_t read(uint8_t* to, size_t count) {
    size_t done = 0;
    while (done < count) {
      const int got = gzread(file_.get(), to + done, static_cast<unsigned>(std::min<size_t>(count - done, 1 << 20)));
      if (got < 0) {
        int code = 0;
        throw input_error("'{}' is a damaged gzip file: {}", path_, gzerror(file_.get(), &code));
      }
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    return done;
  }

 private:
  const std::string& path_;
  std::unique_ptr<gzFile_s, int (*)(gzFile)> file_;
};

int64_t big_endian(const uint8_t* b) {
  return int64_t{b[0]} << 24 | int64_t{b[1]} << 16 | int64_t{b[2]} << 8 | b[3];
}

}  // namespace

IdxFile::IdxFile(const std::string& path) : path_(path) {
  constexpr int64_t most = int64_t{1} << 32;
  Bytes bytes(path);
  uint8_t head[16] = {};
  if (bytes.read(head, 4) != 4 || head[0] != 0 || head[1] != 0 || head[2] != 8 || (head[3] != 1 && head[3] != 3))
    throw input_error("'{}' is no IDX file of images or labels: it must begin with 0, 0, 8 and 3 or 1", path);
  const size_t dimensions = head[3];
  if (bytes.read(head, 4 * dimensions) != 4 * dimensions)
    throw input_error("'{}' is cut: an IDX file that ends in its header", path);
  count_ = big_endian(head);
  int64_t each = 1;
  if (dimensions == 3) {
    height_ = big_endian(head + 4);
    width_ = big_endian(head + 8);
    check_size(height_, width_, {}, "'" + path + "'");
    each = height_ * width_;
  }
  if (count_ < 1 || count_ > most / each) throw input_error("'{}' has {} entries of {} bytes", path, count_, each);
  const auto all = static_cast<size_t>(count_ * each);
  // By what is there, not by what the header says there is.
  constexpr size_t step = 1 << 24;
  while (data_.size() < all) {
    const size_t before = data_.size(), wanted = std::min(step, all - before);
    data_.resize(before + wanted);
    const size_t got = bytes.read(data_.data() + before, wanted);
    if (got == wanted) continue;
    throw input_error("'{}' is cut: its header says {} of {} bytes, and {} bytes of {} are there", path,
                      counted(count_, "entry"), each, before + got, all);
  }
  uint8_t more = 0;
  if (bytes.read(&more, 1) != 0)
    throw input_error("'{}' has more than the {} of its header", path, counted(count_, "entry"));
}

void IdxFile::require(int64_t index, bool image) const {
  if (has_images() != image)
    throw input_error("'{}' is an IDX file of {}, where one of {} is wanted", path_, image ? "labels" : "images",
                      image ? "images" : "labels");
  if (index < 0 || index >= count_)
    throw input_error("'{}' has entries 0 to {}, and none with number {}", path_, count_ - 1, index);
}

Image IdxFile::image(int64_t index) const {
  require(index, true);
  const auto first = data_.begin() + index * height_ * width_;
  return {height_, width_, 1, {first, first + height_ * width_}};
}

int64_t IdxFile::number(int64_t index) const {
  require(index, false);
  return data_[static_cast<size_t>(index)];
}

}  // namespace hone::media
