#include "train/optimizers/moments.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/kind_name.h"
#include "base/random.h"

namespace hone {
namespace {

// Rounds up or down with the chances that make the mean exact (as in Zamirai et al. 2020, arXiv 2010.06192, section 4).
bf16 rounded_by_chance(float x, uint16_t chance) {
  const auto bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7f800000u) == 0x7f800000u) return to_bf16(x);  // infinities stay what they are
  return {static_cast<uint16_t>((bits + chance) >> 16)};
}

// Dynamic tree quantization (Dettmers et al. 2022, arXiv 2110.02861, section 1.3 and appendix D): a sign, a power of
// ten said by how many zeros come first, and evenly spaced values within it. Without a sign there is a bit more of
// those.
class Codes {
 public:
  explicit Codes(bool with_sign) {
    constexpr int powers = 7;
    std::vector<float> all = {0.0f, 1.0f};
    for (int i = 0; i < powers; ++i) {
      const int steps = with_sign ? 1 << i : 2 << i;
      const double power = std::pow(10.0, i + 1 - powers);
      for (int k = 0; k < steps; ++k) {  // the middles of equal parts of 0.1 … 1
        const double value = power * (0.1 + 0.9 * (k + 0.5) / steps);
        all.push_back(static_cast<float>(value));
        if (with_sign) all.push_back(static_cast<float>(-value));
      }
    }
    std::ranges::sort(all);
    // 256 or 255 of them; the largest stands for what is left.
    for (size_t i = 0; i < values_.size(); ++i) values_[i] = all[std::min(i, all.size() - 1)];
    zero_ = static_cast<uint8_t>(std::ranges::find(values_, 0.0f) - values_.begin());
    for (size_t i = 0; i < nearest_.size(); ++i) {
      // The middle of the numbers whose upper 16 bits these are.
      const float x = std::bit_cast<float>(static_cast<uint32_t>(i) << 16 | 0x8000u);
      nearest_[i] = std::isfinite(x) ? search(x) : zero_;
    }
  }

  float value(uint8_t code) const { return values_[code]; }
  // Of a number from -1 (or 0) to 1. What is not 0 does not become it where there are no signs: a root of 0 would
  // divide.
  uint8_t code(float x) const { return nearest_[std::bit_cast<uint32_t>(x) >> 16]; }
  uint8_t at_least(float x) const { return x > 0 ? std::max<uint8_t>(code(x), zero_ + 1) : zero_; }

 private:
  uint8_t search(float x) const {
    const auto above = static_cast<size_t>(std::ranges::lower_bound(values_, x) - values_.begin());
    if (above == 0) return 0;
    if (above == values_.size()) return 255;
    return static_cast<uint8_t>(x - values_[above - 1] < values_[above] - x ? above - 1 : above);
  }

  std::array<float, 256> values_;
  std::array<uint8_t, 65536> nearest_;
  uint8_t zero_ = 0;
};

const Codes& codes(bool with_sign) {
  static const Codes signs(true), roots(false);
  return with_sign ? signs : roots;
}

uint64_t hash_of(const std::string& text) {
  uint64_t h = 0;
  for (const char c : text) h = mix64(h ^ static_cast<unsigned char>(c));
  return h;
}

}  // namespace

MomentForm moment_form(const std::string& name) {
  for (size_t i = 0; i < moment_forms.size(); ++i)
    if (moment_forms[i] == name) return static_cast<MomentForm>(i);
  throw unknown_name("form of moments", name, std::vector<std::string>(moment_forms.begin(), moment_forms.end()));
}

Moments::Moments(MomentForm form, std::string name, bool squares, uint64_t seed)
    : form_(form), name_(std::move(name)), scales_(name_ + "_scales"), squares_(squares), seed_(seed) {}

std::vector<StateArray> Moments::arrays(const Shape& shape) const {
  if (form_ == MomentForm::f32) return {{name_, shape}};
  if (form_ == MomentForm::bf16) return {{name_, shape, DType::bf16}};
  return {{name_, shape, DType::u8}, {scales_, {(elements(shape) + block - 1) / block}}};
}

void Moments::load(const std::map<std::string, Tensor>& state, int64_t begin, int64_t end, float* out) const {
  const Tensor& kept = state.at(name_);
  if (form_ == MomentForm::f32) {
    std::copy(kept.data<float>() + begin, kept.data<float>() + end, out);
  } else if (form_ == MomentForm::bf16) {
    const bf16* from = kept.data<bf16>();
    for (int64_t i = begin; i < end; ++i) out[i - begin] = to_float(from[i]);
  } else {
    const Codes& table = codes(!squares_);
    const uint8_t* from = kept.data<uint8_t>();
    const float* scales = state.at(scales_).data<float>();
    for (int64_t i = begin; i < end; ++i) {
      const float x = table.value(from[i]) * scales[i / block];
      out[i - begin] = squares_ ? x * x : x;
    }
  }
}

void Moments::store(const std::map<std::string, Tensor>& state, int64_t begin, int64_t end, const float* from,
                    int64_t step) const {
  const Tensor& kept = state.at(name_);
  if (form_ == MomentForm::f32) {
    std::copy(from, from + (end - begin), kept.data<float>() + begin);
    return;
  }
  if (form_ == MomentForm::bf16) {
    const uint64_t draw = mix64(seed_ ^ mix64(hash_of(name_) ^ static_cast<uint64_t>(step)));
    bf16* to = kept.data<bf16>();
    for (int64_t i = begin; i < end; ++i)  // four draws of 16 bits from a hash
      to[i] = rounded_by_chance(from[i - begin],
                                static_cast<uint16_t>(mix64(draw + static_cast<uint64_t>(i / 4)) >> (i % 4 * 16)));
    return;
  }
  const Codes& table = codes(!squares_);
  uint8_t* to = kept.data<uint8_t>();
  float* scales = state.at(scales_).data<float>();
  for (int64_t first = begin; first < end; first += block) {
    const int64_t last = std::min(first + block, end);
    float largest = 0;
    for (int64_t i = first; i < last; ++i) largest = std::max(largest, std::abs(from[i - begin]));
    const float scale = squares_ ? std::sqrt(largest) : largest, inverse = scale > 0 ? 1 / scale : 0;
    scales[first / block] = scale;
    for (int64_t i = first; i < last; ++i) {
      const float x = from[i - begin];
      to[i] = squares_ ? table.at_least(std::sqrt(x) * inverse) : table.code(x * inverse);
    }
  }
}

}  // namespace hone
