#include "feed/augment.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numbers>
#include <sstream>
#include <vector>

#include "base/error.h"

namespace hone {
namespace {

struct Named {
  const char* name;
  double* value;
  double most;
};

void parse(const std::string& text, const std::string& option, const std::vector<Named>& known) {
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, ',');) {
    const size_t colon = word.find(':');
    const auto found =
        std::find_if(known.begin(), known.end(), [&](const Named& n) { return n.name == word.substr(0, colon); });
    std::string names;
    for (const Named& n : known) names += fmt::format("{}{}:NUMBER", names.empty() ? "" : ",", n.name);
    if (found == known.end() || colon == word.npos)
      throw usage_error("{} '{}': '{}' is none of {}", option, text, word, names);
    const char *begin = word.data() + colon + 1, *end = word.data() + word.size();
    double number = 0;
    const auto [stop, error] = std::from_chars(begin, end, number);
    if (error != std::errc() || stop != end || !(number >= 0 && number <= found->most))
      throw usage_error("{} '{}': '{}' needs a number from 0 to {}", option, text, found->name, found->most);
    *found->value = number;
  }
}

double drawn(double most, Random& random) {
  return most * (2 * random.uniform() - 1);
}

}  // namespace

ImageAugmentation image_augmentation(const std::string& text, const std::string& option) {
  ImageAugmentation a;
  parse(text, option,
        {{"shift", &a.shift, 1000}, {"rotate", &a.rotate, 180}, {"scale", &a.scale, 0.9}, {"shear", &a.shear, 1}});
  return a;
}

SoundAugmentation sound_augmentation(const std::string& text, const std::string& option) {
  SoundAugmentation a;
  parse(text, option,
        {{"shift", &a.shift, 60}, {"speed", &a.speed, 0.9}, {"gain", &a.gain, 60}, {"masks", &a.masks, 16}});
  return a;
}

media::Image augmented(const media::Image& image, const ImageAugmentation& by, Random& random) {
  const double dy = drawn(by.shift, random), dx = drawn(by.shift, random);
  const double angle = drawn(by.rotate, random) * std::numbers::pi / 180;
  const double zoom_y = 1 / (1 + drawn(by.scale, random)), zoom_x = 1 / (1 + drawn(by.scale, random));
  const double shear = drawn(by.shear, random);
  const double cy = static_cast<double>(image.height - 1) / 2, cx = static_cast<double>(image.width - 1) / 2;
  media::Image out = image;
  const auto at = [&](int64_t y, int64_t x, int64_t c) -> double {
    const bool inside = y >= 0 && y < image.height && x >= 0 && x < image.width;
    return image.pixels[static_cast<size_t>(inside ? (y * image.width + x) * image.channels + c : c)];
  };
  const double cosine = std::cos(angle), sine = std::sin(angle);
  for (int64_t y = 0; y < image.height; ++y)
    for (int64_t x = 0; x < image.width; ++x) {
      // Where the pixel comes from.
      const double v = static_cast<double>(y) - cy - dy, u = static_cast<double>(x) - cx - dx;
      const double fy = (cosine * v - sine * u) * zoom_y + cy;
      const double fx = (sine * v + cosine * u + shear * v) * zoom_x + cx;
      const auto y0 = static_cast<int64_t>(std::floor(fy)), x0 = static_cast<int64_t>(std::floor(fx));
      const double wy = fy - std::floor(fy), wx = fx - std::floor(fx);
      for (int64_t c = 0; c < image.channels; ++c) {
        const double upper = (1 - wx) * at(y0, x0, c) + wx * at(y0, x0 + 1, c);
        const double lower = (1 - wx) * at(y0 + 1, x0, c) + wx * at(y0 + 1, x0 + 1, c);
        out.pixels[static_cast<size_t>((y * image.width + x) * image.channels + c)] =
            static_cast<uint8_t>(std::lround((1 - wy) * upper + wy * lower));
      }
    }
  return out;
}

media::Sound augmented(const media::Sound& sound, const SoundAugmentation& by, Random& random) {
  const double speed = 1 + drawn(by.speed, random);
  const double shift = drawn(by.shift, random) * static_cast<double>(sound.rate);
  const auto factor = static_cast<float>(std::pow(10, drawn(by.gain, random) / 20));
  const auto count = static_cast<int64_t>(sound.samples.size());
  const auto length = std::max<int64_t>(1, std::llround(static_cast<double>(count) / speed + shift));
  media::Sound out{sound.rate, std::vector<float>(static_cast<size_t>(length), 0.0f)};
  for (int64_t i = 0; i < length; ++i) {
    const double from = (static_cast<double>(i) - shift) * speed;
    const auto first = static_cast<int64_t>(std::floor(from));
    if (first < 0 || first + 1 >= count) continue;
    const auto w = static_cast<float>(from - std::floor(from));
    out.samples[static_cast<size_t>(i)] = factor * ((1 - w) * sound.samples[static_cast<size_t>(first)] +
                                                    w * sound.samples[static_cast<size_t>(first) + 1]);
  }
  return out;
}

void mask(Features& features, const SoundAugmentation& by, Random& random) {
  if (by.masks <= 0 || features.values.empty()) return;
  const float silent = *std::min_element(features.values.begin(), features.values.end());
  const int64_t rows = features.rows();
  const auto stretch = [&](int64_t size) {  // first and length
    const auto length = static_cast<int64_t>(random.below(static_cast<uint64_t>(size / 8 + 1)));
    return std::pair(static_cast<int64_t>(random.below(static_cast<uint64_t>(size - length + 1))), length);
  };
  for (int64_t m = 0; m < std::llround(by.masks); ++m) {
    const auto [first_row, tall] = stretch(rows);
    const auto [first_column, wide] = stretch(features.width);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < features.width; ++c)
        if ((r >= first_row && r < first_row + tall) || (c >= first_column && c < first_column + wide))
          features.values[static_cast<size_t>(r * features.width + c)] = silent;
  }
}

}  // namespace hone
