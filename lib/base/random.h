// Random streams: each purpose (initialization, shuffling, dropout, sampling) draws from a stream of its own, so that a
// change in one does not move the others, and a stream's whole state can be saved in a checkpoint.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace hone {

// A well-mixed 64-bit value of `x` (SplitMix64's finalizer, Steele, Lea & Flood 2014).
inline uint64_t mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// xoshiro256++ (Blackman & Vigna 2019), seeded from (seed, name).
class Random {
 public:
  using State = std::array<uint64_t, 4>;

  Random(uint64_t seed, std::string_view stream);
  explicit Random(const State& state) : state_(state) {}

  uint64_t next();
  uint64_t below(uint64_t n);  // uniform in [0, n), n > 0, without bias
  double uniform();            // in [0, 1)
  double normal();             // mean 0, variance 1; uses two draws, keeps no spare, so that the state is all there is

  const State& state() const { return state_; }

 private:
  State state_;
};

}  // namespace hone
