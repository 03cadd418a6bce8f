#include "base/random.h"

#include <bit>
#include <cmath>
#include <numbers>

namespace hone {

Random::Random(uint64_t seed, std::string_view stream) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (unsigned char c : stream) hash = (hash ^ c) * 0x100000001b3u;
  uint64_t x = mix64(seed) ^ hash;
  for (uint64_t& word : state_) word = x = mix64(x);
}

uint64_t Random::next() {
  auto& s = state_;
  const uint64_t result = std::rotl(s[0] + s[3], 23) + s[0];
  const uint64_t t = s[1] << 17;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= t;
  s[3] = std::rotl(s[3], 45);
  return result;
}

uint64_t Random::below(uint64_t n) {
  const uint64_t limit = -n % n;  // 2^64 mod n: draws below it would be too frequent
  for (;;) {
    const uint64_t x = next();
    if (x >= limit) return x % n;
  }
}

double Random::uniform() {
  return static_cast<double>(next() >> 11) * 0x1p-53;
}

double Random::normal() {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

}  // namespace hone
