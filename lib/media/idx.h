// IDX files (LeCun, "The MNIST database of handwritten digits"): many images or numbers of one size in a file.
#pragma once

#include <string>

#include "media/image.h"

namespace hone::media {

// Of unsigned bytes, plain or gzip: one dimension is a list of numbers, three are grey images. Read whole.
class IdxFile {
 public:
  // Throws Error(input) with the path for a file that cannot be read, is no IDX file of bytes with one or three
  // dimensions, is cut, or has more than its header says.
  explicit IdxFile(const std::string& path);

  int64_t size() const { return count_; }  // images or numbers
  bool has_images() const { return height_ > 0; }
  int64_t bytes() const { return static_cast<int64_t>(data_.size()); }
  // Throw Error(input) for an index beyond the last, or a file of the other kind.
  Image image(int64_t index) const;
  int64_t number(int64_t index) const;

 private:
  void require(int64_t index, bool image) const;

  std::string path_;
  int64_t count_ = 0, height_ = 0, width_ = 0;
  std::vector<uint8_t> data_;
};

}  // namespace hone::media
