// Arrays that go through memory in pieces: what is done with a piece finds it in the cache, where it was just put, and
// no array is whole. Private to this room.
#pragma once

#include <algorithm>
#include <span>
#include <string>

#include "base/stop.h"
#include "io/checksum.h"
#include "kernels/parallel.h"
#include "tensor/tensor.h"

namespace hone {

// Room for one piece a thread.
class PieceBuffers {
 public:
  static constexpr uint64_t piece_bytes = uint64_t{256} << 10;  // a quarter of the second cache of today's processors

  PieceBuffers() : all_(Tensor::empty({kernels::threads(), int64_t{piece_bytes}}, DType::u8)) {}
  std::span<std::byte> of_this_thread() const {
    return {all_.raw() + static_cast<uint64_t>(kernels::thread_index()) * piece_bytes, piece_bytes};
  }

 private:
  Tensor all_;
};

// The checksum of an array of so many bytes, which read(begin, to) puts into `buffer` piece by piece, returning 0 or an
// errno. Returns that too; `checksum` is set where it is 0, and of a part alone where a stop is wanted. Allocates
// nothing where `checksum` has room for checksum_digits.
template <class Read>
int checksum_by_pieces(uint64_t bytes, std::span<std::byte> buffer, Read&& read, std::string& checksum) {
  Checksum sum;
  for (uint64_t begin = 0; begin < bytes && !stop_wanted(); begin += buffer.size()) {
    const auto piece = buffer.first(std::min<uint64_t>(buffer.size(), bytes - begin));
    if (const int error = read(begin, piece)) return error;
    sum.add(piece);
  }
  sum.text_into(checksum);
  return 0;
}

}  // namespace hone
