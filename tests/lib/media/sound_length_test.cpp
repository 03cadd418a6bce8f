#include <doctest/doctest.h>
#include <sndfile.h>

#include <cmath>
#include <fstream>

#include "base/error.h"
#include "media/sound.h"
#include "support/scratch.h"

using namespace hone;
using namespace hone::media;
using namespace hone::test;

namespace {

// A tone of `frames` samples at 8000 Hz, as a file of the form.
std::string sound_file(int form, int frames = 24000, int channels = 1) {
  const Scratch scratch;
  const std::string path = scratch / "sound";
  SF_INFO info = {};
  info.samplerate = 8000;
  info.channels = channels;
  info.format = form;
  SNDFILE* file = sf_open(path.c_str(), SFM_WRITE, &info);
  REQUIRE(file);
  std::vector<float> samples;
  for (int i = 0; i < frames * channels; ++i)
    samples.push_back(0.5f * std::sin(0.1f * static_cast<float>(int64_t{i} * i % 977)));
  sf_writef_float(file, samples.data(), frames);
  sf_close(file);
  std::ifstream read(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(read), {}};
}

// What both ways in say, which is the same but for the name.
std::string refusal_of(const std::string& bytes, double seconds = 3600) {
  const Scratch scratch;
  const std::string path = scratch / "sound";
  std::ofstream(path, std::ios::binary) << bytes;
  std::string words, of_path;
  try {
    decode_sound(bytes, 8000, "'" + path + "'", seconds);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    words = error.what();
  }
  if (seconds < 3600) return words;
  try {
    read_sound(path, 8000);
  } catch (const Error& error) {
    of_path = error.what();
  }
  CHECK(words == of_path);
  return words;
}

bool says(const std::string& words, const std::string& part) {
  return words.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("sounds that are cut are refused wherever their form says how long they are") {
  constexpr int pcm = SF_FORMAT_PCM_16;
  for (const int form : {SF_FORMAT_WAV | pcm, SF_FORMAT_WAV | pcm | SF_ENDIAN_BIG, SF_FORMAT_WAV | SF_FORMAT_FLOAT,
                         SF_FORMAT_WAV | SF_FORMAT_IMA_ADPCM, SF_FORMAT_WAVEX | pcm, SF_FORMAT_W64 | pcm,
                         SF_FORMAT_AIFF | pcm, SF_FORMAT_AIFF | SF_FORMAT_IMA_ADPCM, SF_FORMAT_SVX | pcm,
                         SF_FORMAT_AU | pcm, SF_FORMAT_AU | pcm | SF_ENDIAN_LITTLE, SF_FORMAT_CAF | pcm,
                         SF_FORMAT_RF64 | pcm, SF_FORMAT_FLAC | pcm, SF_FORMAT_OGG | SF_FORMAT_VORBIS}) {
    CAPTURE(form);
    const std::string whole = sound_file(form);
    CHECK(refusal_of(whole) == "");
    for (const double part : {0.4, 0.9, 0.999}) {
      const std::string words =
          refusal_of(whole.substr(0, static_cast<size_t>(part * static_cast<double>(whole.size()))));
      CAPTURE(words);
      CHECK(says(words, "is cut"));
    }
  }
}

TEST_CASE("a sound that is cut behind its samples is whole, and a length that nobody knew is what is there") {
  const std::string whole = sound_file(SF_FORMAT_WAV | SF_FORMAT_PCM_16, 100);
  REQUIRE(whole.substr(36, 4) == "data");
  REQUIRE(whole.size() == 244);
  const std::string more = whole + "LIST" + std::string("\x64\0\0\0", 4) + "abc";
  CHECK(refusal_of(more) == "");
  CHECK(says(refusal_of(whole.substr(0, 243)),
             "' is cut: its header promises 200 bytes of samples, and the file has 199 of them"));
  for (const uint32_t size : {0xffffffffu, 0x7ffff000u, 0x80000000u, 0x7f000000u}) {
    std::string stream = whole;
    for (const unsigned byte : {0u, 1u, 2u, 3u}) stream[40 + byte] = static_cast<char>(size >> 8 * byte);
    CHECK(refusal_of(stream) == "");
    CHECK(decode_sound(stream, 8000, "it").samples.size() == 100);
  }
}

TEST_CASE("chunks of any lengths may stand in front of the samples and behind them") {
  const std::string whole = sound_file(SF_FORMAT_WAV | SF_FORMAT_PCM_U8, 101);
  REQUIRE(whole.substr(36, 4) == "data");
  REQUIRE(whole.size() == 44 + 101 + 1);
  const std::string odd("JUNK\x05\0\0\0abcde\0", 14), list("LIST\x04\0\0\0INFO", 12);
  for (const std::string& front : {odd, list, odd + list, list + odd + odd}) {
    const std::string file = whole.substr(0, 36) + front + whole.substr(36) + list;
    CHECK(refusal_of(file) == "");
    CHECK(decode_sound(file, 8000, "it").samples.size() == 101);
    const size_t end = 44 + front.size() + 101;
    CHECK(refusal_of(file.substr(0, end)) == "");  // without what fills the last chunk up
    CHECK(says(refusal_of(file.substr(0, end - 1)), "promises 101 bytes of samples, and the file has 100 of them"));
  }
}

TEST_CASE("a sound of many channels is refused before it takes memory") {
  const std::string wide = sound_file(SF_FORMAT_WAV | SF_FORMAT_PCM_U8, 60000, 256);
  CHECK(refusal_of(wide, 400) == "");
  CHECK(says(refusal_of(wide, 30), "has more than 11520000 samples in 256 channels of 8000 a second"));
}
