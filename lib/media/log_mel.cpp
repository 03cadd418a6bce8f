#include "media/log_mel.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <complex>
#include <Eigen/Core>
#include <memory>
#include <mutex>
#include <numbers>
#include <unsupported/Eigen/FFT>

namespace hone::media {
namespace {

// Slaney's scale: linear below 1000 Hz, logarithmic above.
constexpr double linear_hz = 200.0 / 3, bend_hz = 1000, bend_mel = bend_hz / linear_hz;
const double log_step = std::log(6.4) / 27;

double mel_of(double hz) {
  return hz < bend_hz ? hz / linear_hz : bend_mel + std::log(hz / bend_hz) / log_step;
}
double hz_of(double mel) {
  return mel < bend_mel ? mel * linear_hz : bend_hz * std::exp(log_step * (mel - bend_mel));
}

// What a shape needs for every sound: made once.
struct Tables {
  MelShape shape;
  std::vector<float> window, filters;
};

std::shared_ptr<const Tables> tables_of(const MelShape& shape) {
  static std::mutex mutex;
  static std::shared_ptr<const Tables> latest;
  const std::lock_guard lock(mutex);
  if (latest && latest->shape == shape) return latest;
  auto made = std::make_shared<Tables>();
  made->shape = shape;
  made->filters = mel_filters(shape);
  for (int64_t i = 0; i < shape.frame(); ++i) {
    const double turn = 2 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(shape.frame());
    made->window.push_back(static_cast<float>(0.5 - 0.5 * std::cos(turn)));
  }
  latest = made;
  return latest;
}

}  // namespace

int64_t MelShape::fft() const {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(frame(), 2))));
}

std::vector<float> mel_filters(const MelShape& shape) {
  const int64_t bins = shape.fft() / 2 + 1;
  std::vector<double> edges;  // of the triangles, in Hz
  const double top = mel_of(static_cast<double>(shape.rate) / 2);
  for (int64_t i = 0; i < shape.bands + 2; ++i)
    edges.push_back(hz_of(top * static_cast<double>(i) / static_cast<double>(shape.bands + 1)));
  std::vector<float> filters(static_cast<size_t>(shape.bands * bins));
  for (int64_t b = 0; b < shape.bands; ++b)
    for (int64_t k = 0; k < bins; ++k) {
      const double hz = static_cast<double>(k) * static_cast<double>(shape.rate) / static_cast<double>(shape.fft());
      const double low = edges[static_cast<size_t>(b)], middle = edges[static_cast<size_t>(b) + 1],
                   high = edges[static_cast<size_t>(b) + 2];
      const double height = std::min((hz - low) / (middle - low), (high - hz) / (high - middle));
      filters[static_cast<size_t>(b * bins + k)] = static_cast<float>(std::max(0.0, height) * 2 / (high - low));
    }
  return filters;
}

std::vector<float> log_mel(std::span<const float> samples, const MelShape& shape) {
  const auto tables = tables_of(shape);
  const int64_t frames = shape.frames(static_cast<int64_t>(samples.size())), bins = shape.fft() / 2 + 1;
  std::vector<float> result(static_cast<size_t>(frames * shape.bands));
  Eigen::FFT<float> fft;
  fft.SetFlag(Eigen::FFT<float>::HalfSpectrum);
  std::vector<float> frame(static_cast<size_t>(shape.fft()), 0.0f), powers(static_cast<size_t>(bins));
  std::vector<std::complex<float>> spectrum;
  float largest = -10;
  for (int64_t f = 0; f < frames; ++f) {
    const float* at = samples.data() + f * shape.step();
    for (size_t i = 0; i < tables->window.size(); ++i) frame[i] = at[i] * tables->window[i];
    fft.fwd(spectrum, frame);
    for (size_t k = 0; k < powers.size(); ++k) powers[k] = std::norm(spectrum[k]);
    for (int64_t b = 0; b < shape.bands; ++b) {
      const float* filter = tables->filters.data() + b * bins;
      float sum = 0;
      for (int64_t k = 0; k < bins; ++k) sum += filter[k] * powers[static_cast<size_t>(k)];
      float& y = result[static_cast<size_t>(f * shape.bands + b)];
      y = std::log10(std::max(sum, 1e-10f));
      largest = std::max(largest, y);
    }
  }
  for (float& y : result) y = (std::max(y, largest - 8) + 4) / 4;
  return result;
}

}  // namespace hone::media
