#include "io/checksum.h"

#include <fmt/format.h>
#define XXH_STATIC_LINKING_ONLY  // for the size of a state
#include <xxhash.h>
#if defined(HONE_XXHASH_DISPATCH)  // by the vectors that the processor has, not those of the least one
#include <xxh_x86dispatch.h>
#endif

#include <algorithm>
#include <new>

#include "base/stop.h"

namespace hone {
namespace {

XXH3_state_t* state_in(std::byte* bytes) {
  return std::launder(reinterpret_cast<XXH3_state_t*>(bytes));
}

void put_digits(uint64_t hash, std::string& to) {
  char digits[checksum_digits];
  fmt::format_to(digits, "{:016x}", hash);
  to.assign(digits, sizeof digits);
}

}  // namespace

Checksum::Checksum() {
  static_assert(sizeof(XXH3_state_t) <= sizeof state_ && alignof(XXH3_state_t) <= 64);
  auto* const state = new (state_) XXH3_state_t;
  XXH3_INITSTATE(state);
  XXH3_64bits_reset(state);
}

void Checksum::add(std::span<const std::byte> bytes) {
  XXH3_64bits_update(state_in(state_), bytes.data(), bytes.size());
}

std::string Checksum::text() const {
  std::string digits;
  text_into(digits);
  return digits;
}

void Checksum::text_into(std::string& to) const {
  put_digits(XXH3_64bits_digest(state_in(const_cast<std::byte*>(state_))), to);
}

std::string checksum_of(const void* data, size_t bytes) {
  std::string digits;
  checksum_into(data, bytes, digits);
  return digits;
}

void checksum_into(const void* data, size_t bytes, std::string& to) {
  if (bytes <= unstopped_bytes) return put_digits(XXH3_64bits(data, bytes), to);
  Checksum sum;
  const std::span<const std::byte> all(static_cast<const std::byte*>(data), bytes);
  for (size_t done = 0; done < bytes && !stop_wanted(); done += unstopped_bytes)
    sum.add(all.subspan(done, std::min(unstopped_bytes, bytes - done)));
  sum.text_into(to);
}

}  // namespace hone
