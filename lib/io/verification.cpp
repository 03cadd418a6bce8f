#include "io/verification.h"

#include <algorithm>
#include <span>

#include "base/stop.h"
#include "io/checksum.h"
#include "io/pieces.h"
#include "weights/nonfinite.h"

namespace hone {
namespace {

int64_t compared(const Verification::Check& check) {
  const std::span<const std::byte> all(check.array.raw(), check.array.bytes());
  const bool may_stop = all.size() > unstopped_bytes;
  Checksum sum;
  int64_t nonfinite = 0;
  for (size_t begin = 0; begin < all.size() && !(may_stop && stop_wanted()); begin += PieceBuffers::piece_bytes) {
    const auto piece = all.subspan(begin, std::min<size_t>(PieceBuffers::piece_bytes, all.size() - begin));
    sum.add(piece);
    nonfinite += count_nonfinite(piece, check.array.dtype());
  }
  if (sum.text() != check.checksum) {
    check_stop();
    throw check.failure;
  }
  return nonfinite;
}

}  // namespace

Verification::Verification(std::vector<Check> checks)
    : checks_(std::make_shared<const std::vector<Check>>(std::move(checks))) {}

int64_t Verification::nonfinite() const {
  int64_t sum = 0;
  for (const Check& check : *checks_) sum += compared(check);
  return sum;
}

}  // namespace hone
