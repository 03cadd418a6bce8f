// A sound as the logarithm of its mel spectrogram, some frames side by side in each row. The model's own positions tell
// when a row sounds.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "media/log_mel.h"
#include "media/sound.h"
#include "nn/encoders/kinds.h"

namespace hone {
namespace {

constexpr const char* mel_form = "mel:BANDS[:RATE][:MILLISECONDS/STEP][:STACK]";

class Mel : public EncoderKind {
 public:
  explicit Mel(const std::string& name) {
    const std::vector<std::string> words = words_of(name, mel_form);
    const auto number = [&](size_t i, int64_t least, int64_t most, int64_t otherwise) {
      return i < words.size() ? numbers_in(words[i], ':', 1, least, most, name, mel_form)[0] : otherwise;
    };
    shape_.bands = number(0, 1, 512, 0);
    shape_.rate = number(1, 1000, 192000, shape_.rate);
    if (words.size() > 2) {
      const std::vector<int64_t> frame = numbers_in(words[2], '/', 2, 1, 1000, name, mel_form);
      shape_.milliseconds = frame[0];
      shape_.step_milliseconds = frame[1];
    }
    stack_ = number(3, 1, 64, stack_);
  }

  std::string name() const override {
    return fmt::format("mel:{}:{}:{}/{}:{}", shape_.bands, shape_.rate, shape_.milliseconds, shape_.step_milliseconds,
                       stack_);
  }
  const Medium& medium() const override { return media::sound_medium; }
  int64_t width() const override { return shape_.bands * stack_; }

  Decoded read(const std::string& path) const override { return media::read_sound(path, shape_.rate); }

  // Each row is as many steps on; the last frame hangs over, and less than a step makes no frame.
  Decoded decode(std::string_view bytes, const std::string& where, int64_t most_rows) const override {
    const auto steps = static_cast<double>(most_rows) * static_cast<double>(stack_) + 1;
    const double milliseconds = steps * static_cast<double>(shape_.step_milliseconds);
    return media::decode_sound(bytes, shape_.rate, where,
                               1e-3 * (milliseconds + static_cast<double>(shape_.milliseconds)));
  }

  Decoded noise(Random& random) const override {
    media::Sound sound{shape_.rate, std::vector<float>(static_cast<size_t>(shape_.rate))};
    for (float& sample : sound.samples) sample = static_cast<float>(0.1 * random.normal());
    return sound;
  }

  // Frames in order, `stack` to a row; what the last row lacks is as silent as the sound gets.
  Features features(const Decoded& decoded, const std::string& where) const override {
    const auto& sound = decoded.as<media::Sound>();
    Features f{media::log_mel(sound.samples, shape_), width()};
    if (f.values.empty())
      throw input_error("{} is a sound of {} samples at {} a second, shorter than one frame of {}", where,
                        sound.samples.size(), shape_.rate, shape_.frame());
    // Finite samples may have squares that are not.
    if (!std::ranges::all_of(f.values, [](float x) { return std::isfinite(x); }))
      throw input_error("{} is a sound of samples so large that its spectrum is not of finite numbers", where);
    const auto rows = static_cast<int64_t>((static_cast<int64_t>(f.values.size()) + f.width - 1) / f.width);
    f.values.resize(static_cast<size_t>(rows * f.width), *std::min_element(f.values.begin(), f.values.end()));
    return f;
  }

 private:
  media::MelShape shape_;
  int64_t stack_ = 1;
};

}  // namespace

EncoderRow mel_encoder() {
  return {mel_form, "mel:8:8000:25/10:2",
          [](const std::string& name) -> std::shared_ptr<const EncoderKind> { return std::make_shared<Mel>(name); },
          "as log mel spectrograms: mel:BANDS[:RATE][:MS/STEP][:STACK], by default 16000 a second, frames of 25 ms "
          "every 10, STACK of them a row (1)"};
}

}  // namespace hone
