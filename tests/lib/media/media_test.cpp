#include <doctest/doctest.h>
#include <png.h>
#include <sndfile.h>
#include <turbojpeg.h>
#include <zlib.h>

#include <cmath>
#include <fstream>

#include "base/error.h"
#include "media/idx.h"
#include "media/log_mel.h"
#include "media/sound.h"
#include "support/scratch.h"

using namespace hone;
using namespace hone::media;
using namespace hone::test;

namespace {

std::string write(const Scratch& scratch, const std::string& name, const std::string& bytes) {
  const std::string path = (scratch / name);
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

template <class F>
std::string refusal(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.what();
  }
  return "";
}

std::string png_of(int width, int height, int format, const std::vector<uint8_t>& pixels, const Scratch& scratch) {
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(width);
  image.height = static_cast<png_uint_32>(height);
  image.format = static_cast<png_uint_32>(format);
  const std::string path = (scratch / "image.png");
  REQUIRE(png_image_write_to_file(&image, path.c_str(), 0, pixels.data(), 0, nullptr));
  return path;
}

std::string big_endian(std::initializer_list<uint32_t> numbers) {
  std::string bytes;
  for (const uint32_t n : numbers)
    for (const int shift : {24, 16, 8, 0}) bytes += static_cast<char>(n >> shift);
  return bytes;
}

std::string wav(const Scratch& scratch, int format, int rate, int channels, const std::vector<float>& samples) {
  const std::string path = (scratch / "sound.wav");
  SF_INFO info = {};
  info.samplerate = rate;
  info.channels = channels;
  info.format = SF_FORMAT_WAV | format;
  SNDFILE* file = sf_open(path.c_str(), SFM_WRITE, &info);
  REQUIRE(file);
  sf_writef_float(file, samples.data(), static_cast<sf_count_t>(samples.size()) / channels);
  sf_close(file);
  return path;
}

}  // namespace

TEST_CASE("a PNG is read in the colours that are wanted") {
  const Scratch scratch;
  const std::string grey = png_of(3, 2, PNG_FORMAT_GRAY, {0, 50, 100, 150, 200, 250}, scratch);
  const Image one = read_image(grey, 1, {});
  CHECK(one.height == 2);
  CHECK(one.width == 3);
  CHECK(one.pixels == std::vector<uint8_t>{0, 50, 100, 150, 200, 250});
  const Image three = read_image(grey, 3, {});
  CHECK(three.pixels.size() == 18);
  CHECK(three.pixels[3] == 50);
  CHECK(three.pixels[5] == 50);
  const std::string colours = png_of(1, 1, PNG_FORMAT_RGB, {255, 0, 0}, scratch);
  CHECK(read_image(colours, 3, {}).pixels == std::vector<uint8_t>{255, 0, 0});
  CHECK(with_channels(read_image(colours, 3, {}), 1).pixels == std::vector<uint8_t>{76});
}

TEST_CASE("a JPEG is read about as it was") {
  const Scratch scratch;
  std::vector<uint8_t> pixels(16 * 24, 180), bytes(1 << 16);
  tjhandle writer = tjInitCompress();
  unsigned char* out = nullptr;
  unsigned long size = 0;
  REQUIRE(tjCompress2(writer, pixels.data(), 24, 0, 16, TJPF_GRAY, &out, &size, TJSAMP_GRAY, 95, 0) == 0);
  const std::string path = write(scratch, "a.jpg", std::string(reinterpret_cast<char*>(out), size));
  const std::string cut = write(scratch, "cut.jpg", std::string(reinterpret_cast<char*>(out), size / 2));
  tjFree(out);
  tjDestroy(writer);
  const Image image = read_image(path, 1, {});
  CHECK(image.height == 16);
  CHECK(image.width == 24);
  CHECK(std::abs(image.pixels[100] - 180) <= 2);
  CHECK(refusal([&] { read_image(cut, 1, {}); }).find("no JPEG that can be read") != std::string::npos);
}

TEST_CASE("images that cannot be are refused, with both sizes where one is too large") {
  const Scratch scratch;
  const std::string png = png_of(3, 2, PNG_FORMAT_GRAY, {0, 50, 100, 150, 200, 250}, scratch);
  CHECK(refusal([&] {
          read_image(png, 1, {2, 2});
        }) == "'" + png + "' is an image of 2 x 3 pixels (height x width), beyond the largest of 2 x 2");
  CHECK(refusal([&] { check_size(0, 5, {}, "it"); }) == "it is an image of 0 x 5 pixels: nothing to see");
  CHECK(refusal([&] { read_image((scratch / "none.png"), 1, {}); }).find("does not exist") != std::string::npos);
  CHECK(refusal([&] { read_image(write(scratch, "t.png", "hello"), 1, {}); }).find("neither a PNG nor a JPEG") !=
        std::string::npos);
  CHECK(refusal([&] { read_image(write(scratch, "b.png", "\x89PNG\r\n\x1a\n broken"), 1, {}); }) != "");
}

TEST_CASE("entries of IDX files are images and labels, and cut files say what is missing") {
  const Scratch scratch;
  const std::string head("\0\0\x08\x03", 4), data = "abcdefghijkl";
  const IdxFile file(write(scratch, "images", head + big_endian({3, 2, 2}) + data));
  CHECK(file.size() == 3);
  CHECK(file.image(1).pixels == std::vector<uint8_t>{'e', 'f', 'g', 'h'});
  CHECK(refusal([&] { file.image(3); }).find("entries 0 to 2") != std::string::npos);
  CHECK(refusal([&] { file.number(0); }).find("IDX file of images, where one of labels") != std::string::npos);
  const std::string gz = (scratch / "labels.gz");
  gzFile out = gzopen(gz.c_str(), "wb");
  const std::string labels = std::string("\0\0\x08\x01", 4) + big_endian({3}) + std::string("\7\0\3", 3);
  gzwrite(out, labels.data(), static_cast<unsigned>(labels.size()));
  gzclose(out);
  CHECK(IdxFile(gz).number(2) == 3);
  CHECK(refusal([&] {
          IdxFile(write(scratch, "cut", head + big_endian({3, 2, 2}) + "abcdefg"));
        }).find("3 entries of 4 bytes, and 7 bytes of 12") != std::string::npos);
  CHECK(refusal([&] {
          IdxFile(write(scratch, "more", head + big_endian({1, 2, 2}) + "abcdefg"));
        }).find("more than") != std::string::npos);
  CHECK(refusal([&] { IdxFile(write(scratch, "huge", head + big_endian({~0u, ~0u, 2}))); }) != "");
  CHECK(refusal([&] { IdxFile(write(scratch, "text", "hello there")); }).find("no IDX file") != std::string::npos);
}

TEST_CASE("sounds of integers and of floats are read as the same numbers, and channels as their mean") {
  const Scratch scratch;
  const std::vector<float> samples = {0.5f, -0.25f, 0.125f, 0};
  for (const int format : {SF_FORMAT_PCM_16, SF_FORMAT_FLOAT}) {
    const Sound sound = read_sound(wav(scratch, format, 8000, 1, samples), 8000);
    REQUIRE(sound.samples.size() == 4);
    for (size_t i = 0; i < 4; ++i) CHECK(sound.samples[i] == doctest::Approx(samples[i]).epsilon(1e-4));
  }
  const Sound mono = read_sound(wav(scratch, SF_FORMAT_FLOAT, 8000, 2, samples), 8000);
  REQUIRE(mono.samples.size() == 2);
  CHECK(mono.samples[0] == doctest::Approx(0.125f));
}

TEST_CASE("a sound of another rate keeps its tone") {
  const Scratch scratch;
  std::vector<float> samples;
  for (int i = 0; i < 16000; ++i) samples.push_back(std::sin(2 * 3.14159265f * 440 * static_cast<float>(i) / 16000));
  const Sound sound = read_sound(wav(scratch, SF_FORMAT_FLOAT, 16000, 1, samples), 8000);
  CHECK(sound.rate == 8000);
  CHECK(std::abs(static_cast<int>(sound.samples.size()) - 8000) <= 2);
  for (const size_t i : {size_t{2001}, size_t{4003}})
    CHECK(sound.samples[i] == doctest::Approx(samples[2 * i]).epsilon(0.02));
}

TEST_CASE("sounds without samples, without end of their header and of other bytes are refused") {
  const Scratch scratch;
  std::string bytes;
  {
    std::ifstream file(wav(scratch, SF_FORMAT_PCM_16, 8000, 1, {0.1f, 0.2f, 0.3f, 0.4f}), std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(file), {});
  }
  std::string open = bytes;  // as a writer leaves it that never came to say how much there is
  open.replace(4, 4, std::string(4, '\0'));
  open.replace(40, 4, std::string(4, '\0'));
  CHECK(refusal([&] { read_sound(write(scratch, "open.wav", open), 8000); }).find("holds no samples") !=
        std::string::npos);
  CHECK(refusal([&] { read_sound(wav(scratch, SF_FORMAT_PCM_16, 8000, 1, {}), 8000); }).find("holds no samples") !=
        std::string::npos);
  std::string no_rate = bytes;
  no_rate.replace(24, 4, std::string(4, '\0'));
  CHECK(refusal([&] {
          read_sound(write(scratch, "rate.wav", no_rate), 8000);
        }).ends_with("is no sound that can be read: its header tells no rate or no channels."));
  CHECK(refusal([&] { read_sound(write(scratch, "text.wav", "hello"), 8000); }).find("no sound that can be read") !=
        std::string::npos);
  CHECK(refusal([&] { read_sound((scratch / "none.wav"), 8000); }).find("does not exist") != std::string::npos);
  CHECK(refusal([&] {
          read_sound(wav(scratch, SF_FORMAT_FLOAT, 8000, 1, {0.f, NAN}), 8000);
        }).find("not finite") != std::string::npos);
}

TEST_CASE("bytes of a file are decoded as the file is, and no further than is wanted") {
  const Scratch scratch;
  const auto bytes_of = [](const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  const std::string picture = png_of(3, 1, PNG_FORMAT_GRAY, {1, 128, 255}, scratch);
  CHECK(decode_image(bytes_of(picture), 1, {}, "it").pixels == read_image(picture, 1, {}).pixels);
  CHECK(refusal([&] { decode_image(bytes_of(picture), 1, {2, 2}, "it"); }).starts_with("it is an image of 1 x 3"));
  CHECK(refusal([&] { decode_image("hello", 1, {}, "it"); }) == "it is neither a PNG nor a JPEG image");
  std::vector<float> samples;
  for (int i = 0; i < 9000; ++i) samples.push_back(std::sin(0.01f * static_cast<float>(i)));
  for (const int format : {SF_FORMAT_PCM_16, SF_FORMAT_FLOAT}) {
    const std::string path = wav(scratch, format, 9000, 1, samples), bytes = bytes_of(path);
    CHECK(decode_sound(bytes, 8000, "it").samples == read_sound(path, 8000).samples);
    CHECK(decode_sound(bytes, 9000, "it", 1).samples.size() == 9000);
    CHECK(refusal([&] { decode_sound(bytes, 9000, "it", 0.5); }) ==
          "it lasts longer than 0.5 seconds: cut it into parts");
  }
  CHECK(refusal([&] { decode_sound("hello", 8000, "it"); }).starts_with("it is no sound that can be read"));
  CHECK(refusal([&] { decode_sound("", 8000, "it"); }).starts_with("it is no sound that can be read"));
}

// Computed by numpy from the definition in log_mel.h: rfft in double precision, triangles as they are written there.
TEST_CASE("log mel spectrograms have the numbers of an independent computation") {
  const MelShape shape = {10, 8000, 25, 10};
  std::vector<float> samples;
  for (int t = 0; t < 1000; ++t) {
    const double s = 0.4 * std::sin(2 * M_PI * 440 * t / 8000) + 0.1 * std::cos(2 * M_PI * 1900 * t / 8000) +
                     0.05 * (static_cast<int64_t>(t) * 7919 % 101 - 50) / 50.0;
    samples.push_back(static_cast<float>(s));
  }
  const std::vector<float> y = log_mel(samples, shape);
  REQUIRE(y.size() == 110);
  const double first[] = {0.71802, 1.12854, 0.8738, 0.06847, 0.11733, 0.34083, 0.68623, 0.69499, 0.14822, 0.46412};
  const double last[] = {0.71719, 1.12593, 0.86921, 0.06958, 0.11848, 0.34123, 0.68679, 0.69534, 0.14864, 0.46403};
  double mean = 0;
  for (size_t b = 0; b < 10; ++b) {
    CHECK(std::abs(y[b] - first[b]) < 2e-5);
    CHECK(std::abs(y[100 + b] - last[b]) < 2e-5);
  }
  for (const float v : y) mean += v / 110.0;
  CHECK(std::abs(mean - 0.5240642) < 1e-5);
  const std::vector<float> filters = mel_filters(shape);
  double sum = 0;
  for (size_t k = 0; k < 129; ++k) sum += filters[4 * 129 + k];
  CHECK(std::abs(sum - 0.032017) < 1e-6);
  CHECK(log_mel(std::span(samples).first(199), shape).empty());
  CHECK(log_mel(std::span(samples).first(200), shape).size() == 10);
}
