#include "io/checksum.h"

#include <fmt/format.h>
#include <xxhash.h>
#if defined(HONE_XXHASH_DISPATCH)  // by the vectors that the processor has, not those of the least one
#include <xxh_x86dispatch.h>
#endif

#include <algorithm>
#include <new>

#include "base/stop.h"

namespace hone {
namespace {

constexpr size_t at_once = size_t{16} << 20;  // between two looks at signals: a cold disk takes a tenth of a second

}  // namespace

struct Checksum::State {
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> hash{XXH3_createState(), XXH3_freeState};
};

Checksum::Checksum() : state_(std::make_unique<State>()) {
  if (!state_->hash) throw std::bad_alloc();
  XXH3_64bits_reset(state_->hash.get());
}

Checksum::~Checksum() = default;

void Checksum::add(std::span<const std::byte> bytes) {
  XXH3_64bits_update(state_->hash.get(), bytes.data(), bytes.size());
}

std::string Checksum::text() const {
  return fmt::format("{:016x}", XXH3_64bits_digest(state_->hash.get()));
}

std::string checksum_of(const void* data, size_t bytes) {
  if (bytes <= at_once) return fmt::format("{:016x}", XXH3_64bits(data, bytes));
  Checksum sum;
  const std::span<const std::byte> all(static_cast<const std::byte*>(data), bytes);
  for (size_t done = 0; done < bytes && !stop_wanted(); done += at_once)
    sum.add(all.subspan(done, std::min(at_once, bytes - done)));
  return sum.text();
}

}  // namespace hone
