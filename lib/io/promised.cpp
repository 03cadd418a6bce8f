#include "io/promised.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/stop.h"
#include "io/descriptor.h"
#include "io/pieces.h"
#include "kernels/rows/elementwise.h"

namespace hone {
namespace {

constexpr int not_finite = -1;  // beside the numbers of errno

bool is_finite(const Entry& entry, std::span<const std::byte> piece) {
  if (entry.dtype != DType::f32) return true;
  const auto count = static_cast<int64_t>(piece.size() / sizeof(float));
  return kernels::all_finite(kernels::view(reinterpret_cast<const float*>(piece.data()), 1, count));
}

// What the first of several threads found that failed to read, or is of no use.
class ReadFailure {
 public:
  void note(int error, const Entry& entry) {
    int none = 0;
    if (error != 0 && error_.compare_exchange_strong(none, error)) entry_ = &entry;
  }
  explicit operator bool() const { return error_ != 0; }
  void check() const {  // after the loop
    if (error_ == not_finite)
      throw input_error("{} has numbers that are NaN or infinite: give a model whose training did not diverge",
                        entry_->where());
    if (error_ != 0) throw input_error("{} cannot be read: {}", entry_->where(), std::strerror(error_));
  }

 private:
  std::atomic<int> error_{0};
  const Entry* entry_ = nullptr;
};

uint64_t bytes_of_all(const std::vector<Entry*>& entries) {
  uint64_t bytes = 0;
  for (const Entry* entry : entries) bytes += entry->bytes;
  return bytes;
}

struct Piece {
  const Entry* entry;
  uint64_t begin, bytes;
};

std::vector<Piece> pieces_of(const std::vector<Entry*>& entries) {
  std::vector<Piece> pieces;
  for (const Entry* entry : entries)
    for (uint64_t begin = 0; begin < entry->bytes; begin += PieceBuffers::piece_bytes)
      pieces.push_back({entry, begin, std::min(PieceBuffers::piece_bytes, entry->bytes - begin)});
  return pieces;
}

}  // namespace

// An array a thread, since a checksum has one order.
void set_read_checksums(std::vector<Entry*> entries, const ArrayReader& read) {
  // The largest first, so that threads finish together.
  std::stable_sort(entries.begin(), entries.end(), [](const Entry* a, const Entry* b) { return a->bytes > b->bytes; });
  for (Entry* entry : entries) entry->checksum.reserve(checksum_digits);
  const PieceBuffers buffers;
  ReadFailure failure;
  for_each_of(static_cast<int64_t>(entries.size()), bytes_of_all(entries), [&](int64_t i) {
    Entry& entry = *entries[static_cast<size_t>(i)];
    const auto read_piece = [&](uint64_t begin, std::span<std::byte> to) {
      if (failure) return ECANCELED;
      const int error = read(entry.owner, entry.name, begin, to);
      return error != 0 || is_finite(entry, to) ? error : not_finite;  // now that it is in the cache
    };
    failure.note(checksum_by_pieces(entry.bytes, buffers.of_this_thread(), read_piece, entry.checksum), entry);
  });
  check_stop();
  failure.check();
}

int write_read(int fd, const std::vector<Entry*>& entries, const ArrayReader& read) {
  const std::vector<Piece> pieces = pieces_of(entries);
  const PieceBuffers buffers;
  ReadFailure failure;
  std::atomic<int> error{0};
  for_each_of(static_cast<int64_t>(pieces.size()), bytes_of_all(entries), [&](int64_t i) {
    const auto& [entry, begin, bytes] = pieces[static_cast<size_t>(i)];
    if (failure || error != 0 || stop_wanted()) return;
    const std::span<std::byte> piece = buffers.of_this_thread().first(bytes);
    if (const int failed = read(entry->owner, entry->name, begin, piece))
      failure.note(failed, *entry);
    else if (const int full = write_at(fd, {piece.data(), bytes, entry->offset + begin}))
      error = full;
  });
  check_stop();
  failure.check();
  return error;
}

}  // namespace hone
