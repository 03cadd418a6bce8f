#include "media/sound.h"

#include <samplerate.h>
#include <sndfile.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>

#include "base/error.h"
#include "base/spelling.h"
#include "media/sound_length.h"

namespace hone::media {
namespace {

// Of all channels, in sounds of at least a minute: two of 96,000 Hz. A small file may be made that decodes to any number.
constexpr double most_values_a_second = 192000;

// The mean of the channels of each frame.
void append_mono(const std::vector<float>& frames, int64_t count, int64_t channels, std::vector<float>& to) {
  for (int64_t f = 0; f < count; ++f) {
    float sum = 0;
    for (int64_t c = 0; c < channels; ++c) sum += frames[static_cast<size_t>(f * channels + c)];
    to.push_back(sum / static_cast<float>(channels));
  }
}

using SoundFile = std::unique_ptr<SNDFILE, int (*)(SNDFILE*)>;

Sound sound_in(const SoundFile& file, const SF_INFO& info, int64_t rate, const std::string& where, double seconds) {
  if (!file) {
    // libsndfile calls it an internal error that it finds its own SF_INFO incomplete.
    const std::string why = sf_strerror(nullptr);
    throw input_error("{} is no sound that can be read: {}", where,
                      why.find("SF_INFO") == why.npos ? why : "its header tells no rate or no channels.");
  }
  if (info.samplerate < 1 || info.channels < 1 || info.channels > 256)
    throw input_error("{} has {} channels of {} samples a second", where, info.channels, info.samplerate);
  Sound sound{info.samplerate, {}};
  const int64_t at_once = (1 << 18) / info.channels;
  const auto most = static_cast<int64_t>(std::max(seconds, 60.0) * most_values_a_second);
  // Floats, whatever the file has: asked for integers, libsndfile 1.2.0 reads a WAV of floats as silence. By what is
  // there: the header's number of frames may be anything.
  std::vector<float> frames(static_cast<size_t>(at_once * info.channels));
  while (true) {
    const sf_count_t got = sf_readf_float(file.get(), frames.data(), at_once);
    if (got <= 0) break;
    append_mono(frames, got, info.channels, sound.samples);
    if (sound.seconds() > seconds)
      throw SoundTooLong(ErrorKind::input,
                         fmt::format("{} lasts longer than {:.6g} seconds: cut it into parts", where, seconds));
    if (static_cast<int64_t>(sound.samples.size()) * info.channels > most)
      throw input_error("{} has more than {} samples in {} of {} a second: cut it into parts", where, most,
                        counted(info.channels, "channel"), info.samplerate);
  }
  if (sf_error(file.get()) != SF_ERR_NO_ERROR)
    throw input_error("{} is a damaged sound: {}", where, sf_strerror(file.get()));
  const auto got = static_cast<sf_count_t>(sound.samples.size());
  if ((info.format & SF_FORMAT_TYPEMASK) == SF_FORMAT_FLAC && info.frames != SF_COUNT_MAX && got < info.frames)
    throw input_error("{} is cut or damaged: its header says {}, and {} are there", where,
                      counted(info.frames, "sample"), got);
  if (sound.samples.empty())
    throw input_error("{} holds no samples: it is empty, or its header was never completed", where);
  for (const float sample : sound.samples)
    if (!std::isfinite(sample)) throw input_error("{} has samples that are not finite numbers", where);
  return resampled(std::move(sound), rate);
}

// Bytes as the file that libsndfile reads.
struct SoundBytes {
  std::string_view bytes;
  sf_count_t at = 0;

  sf_count_t size() const { return static_cast<sf_count_t>(bytes.size()); }

  static sf_count_t length(void* self) { return static_cast<SoundBytes*>(self)->size(); }
  static sf_count_t tell(void* self) { return static_cast<SoundBytes*>(self)->at; }
  static sf_count_t seek(sf_count_t offset, int whence, void* self) {
    auto& file = *static_cast<SoundBytes*>(self);
    const sf_count_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? file.at : file.size();
    if (offset < -from || offset > INT64_MAX - from) return -1;
    return file.at = from + offset;  // behind the end, too, as in files
  }
  static sf_count_t read(void* to, sf_count_t count, void* self) {
    auto& file = *static_cast<SoundBytes*>(self);
    const sf_count_t got = std::max<sf_count_t>(0, std::min(count, file.size() - file.at));
    if (got > 0) std::memcpy(to, file.bytes.data() + file.at, static_cast<size_t>(got));
    file.at += got;
    return got;
  }
  static sf_count_t write(const void*, sf_count_t, void*) { return 0; }
};

}  // namespace

Sound read_sound(const std::string& path, int64_t rate) {
  std::error_code failed;
  if (!std::filesystem::exists(path, failed)) throw input_error("'{}' does not exist", path);
  if (!std::filesystem::is_regular_file(path, failed)) throw input_error("'{}' is not a file", path);
  std::ifstream bytes(path, std::ios::binary);
  if (const uintmax_t size = std::filesystem::file_size(path, failed); bytes && !failed)
    require_whole_sound({size,
                         [&](uint64_t at, std::span<uint8_t> to) {
                           bytes.clear();
                           bytes.seekg(static_cast<std::streamoff>(at));
                           bytes.read(reinterpret_cast<char*>(to.data()), static_cast<std::streamsize>(to.size()));
                           return static_cast<size_t>(bytes.gcount());
                         }},
                        "'" + path + "'");
  SF_INFO info = {};
  const SoundFile file(sf_open(path.c_str(), SFM_READ, &info), sf_close);
  return sound_in(file, info, rate, "'" + path + "'", most_seconds);
}

Sound decode_sound(std::string_view bytes, int64_t rate, const std::string& where, double seconds) {
  require_whole_sound({bytes.size(),
                       [&](uint64_t at, std::span<uint8_t> to) {
                         if (at >= bytes.size()) return size_t{0};
                         return bytes.copy(reinterpret_cast<char*>(to.data()), to.size(), at);
                       }},
                      where);
  SF_VIRTUAL_IO as_file = {SoundBytes::length, SoundBytes::seek, SoundBytes::read, SoundBytes::write, SoundBytes::tell};
  SoundBytes content{bytes};
  SF_INFO info = {};
  const SoundFile file(sf_open_virtual(&as_file, SFM_READ, &info, &content), sf_close);
  return sound_in(file, info, rate, where, std::min(seconds, most_seconds));
}

Sound resampled(Sound sound, int64_t rate) {
  if (sound.rate == rate || sound.samples.empty()) return {rate, std::move(sound.samples)};
  const double ratio = static_cast<double>(rate) / static_cast<double>(sound.rate);
  Sound other{
      rate, std::vector<float>(static_cast<size_t>(std::ceil(static_cast<double>(sound.samples.size()) * ratio)) + 1)};
  SRC_DATA data = {};
  data.data_in = sound.samples.data();
  data.input_frames = static_cast<long>(sound.samples.size());
  data.data_out = other.samples.data();
  data.output_frames = static_cast<long>(other.samples.size());
  data.src_ratio = ratio;
  if (const int error = src_simple(&data, SRC_SINC_MEDIUM_QUALITY, 1))
    throw input_error("a sound of {} samples a second cannot be made one of {}: {}", sound.rate, rate,
                      src_strerror(error));
  other.samples.resize(static_cast<size_t>(data.output_frames_gen));
  return other;
}

SoundAugmentation sound_augmentation(const std::string& text, const std::string& option) {
  SoundAugmentation a;
  const AugmentationNumber numbers[] = {
      {"shift", &a.shift, 60}, {"speed", &a.speed, 0.9}, {"gain", &a.gain, 60}, {"masks", &a.masks, 16, true}};
  parse_augmentation(text, option, numbers);
  return a;
}

Sound augmented(const Sound& sound, const SoundAugmentation& by, Random& random) {
  const double speed = 1 + drawn(by.speed, random);
  const double shift = drawn(by.shift, random) * static_cast<double>(sound.rate);
  const auto factor = static_cast<float>(std::pow(10, drawn(by.gain, random) / 20));
  const auto count = static_cast<int64_t>(sound.samples.size());
  const auto length = std::max<int64_t>(1, std::llround(static_cast<double>(count) / speed + shift));
  Sound out{sound.rate, std::vector<float>(static_cast<size_t>(length), 0.0f)};
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

namespace {

class SoundChanges : public Augmentation {
 public:
  explicit SoundChanges(const SoundAugmentation& by) : by_(by) {}
  Decoded changed(const Decoded& decoded, Random& random) const override {
    return augmented(decoded.as<Sound>(), by_, random);
  }
  void mask(Features& features, Random& random) const override { media::mask(features, by_, random); }

 private:
  SoundAugmentation by_;
};

std::shared_ptr<const Augmentation> sound_changes(const std::string& text, const std::string& option) {
  const SoundAugmentation by = sound_augmentation(text, option);
  return by.any() ? std::make_shared<const SoundChanges>(by) : nullptr;
}

}  // namespace

constinit const Medium sound_medium = {
    .name = "audio",
    .noun = "sound",
    .plural = "sounds",
    .file = "Sound",
    .example = "a.wav",
    .augmentation_help =
        "Change sounds, a comma list of shift:SECONDS, speed:PART, gain:DECIBELS, masks:COUNT: the most",
    .augmentation = sound_changes};

}  // namespace hone::media
