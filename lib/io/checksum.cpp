#include "io/checksum.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <memory>

#include "base/stop.h"

namespace hone {
namespace {

constexpr size_t at_once = size_t{16} << 20;  // between two looks at signals: a cold disk takes a tenth of a second

}  // namespace

std::string checksum_of(const void* data, size_t bytes) {
  if (bytes <= at_once) return fmt::format("{:016x}", XXH3_64bits(data, bytes));
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
  XXH3_64bits_reset(state.get());
  const auto* from = static_cast<const std::byte*>(data);
  for (size_t done = 0; done < bytes && !stop_wanted(); done += at_once)
    XXH3_64bits_update(state.get(), from + done, std::min(at_once, bytes - done));
  return fmt::format("{:016x}", XXH3_64bits_digest(state.get()));
}

}  // namespace hone
