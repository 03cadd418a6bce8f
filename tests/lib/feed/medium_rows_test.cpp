// Every row of the table of media, read, cached and changed through every encoder that is for it.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <regex>

#include "base/error.h"
#include "base/kind_name.h"
#include "feed/sequence.h"
#include "media/sound.h"
#include "support/scratch.h"

using namespace hone;
using namespace hone::test;

namespace {

// By name, those of the encoders' examples that are for a medium.
std::vector<std::string> encoders_for(const Medium& medium) {
  std::vector<std::string> names;
  for (const std::string& name : encoder_examples())
    if (&encoder_kind(name)->medium() == &medium) names.push_back(name);
  return names;
}

// "shift:0.1,rotate:0.1", of all that its help names; "" where it has no changes.
std::string all_changes(const Medium& medium) {
  const std::string help = medium.augmentation_help ? medium.augmentation_help : "";
  const std::regex number("([a-z]+):([A-Z]+)");
  std::string text;
  for (std::sregex_iterator at(help.begin(), help.end(), number), end; at != end; ++at)
    text += (text.empty() ? "" : ",") + (*at)[1].str() + ((*at)[2] == "COUNT" ? ":1" : ":0.1");
  return text;
}

// A line with the example of the medium, tests/fixtures/media/, whose name the row has.
class MediumLine {
 public:
  explicit MediumLine(const Medium& medium) {
    const std::string file = std::string(HONE_TEST_DATA) + "/media/" + medium.example;
    REQUIRE(std::filesystem::exists(file));
    std::ofstream(path_) << fmt::format(R"({{"parts": [{{"{}": "{}"}}], "answer": "a"}})", medium.name, file);
  }
  SequenceReader reader(const std::vector<std::string>& encoders, const FeedSettings& settings) const {
    Config config;
    config.encoders = encoders;
    return SequenceReader(read_examples({path_}), std::shared_ptr<const Tokenizer>(train_tokenizer({"bytes", 256}, {})),
                          config, 256, settings);
  }

 private:
  Scratch scratch_;
  std::string path_ = scratch_ / "line.jsonl";
};

std::vector<float> features_of(SequenceReader& reader, uint64_t seed) {
  const std::optional<Sequence> sequence = reader.read(0, seed);
  REQUIRE(sequence);
  REQUIRE(sequence->parts.size() == 1);
  return sequence->parts[0].features.values;
}

}  // namespace

TEST_CASE("every medium has an encoder, which help names and which reads an example and keeps it") {
  for (const Medium* medium : all_media()) {
    CAPTURE(std::string(medium->name));
    const std::vector<std::string> encoders = encoders_for(*medium);
    REQUIRE(!encoders.empty());
    CHECK(encoder_help(*medium).starts_with(std::string("Take ") + medium->plural + ", "));
    const MediumLine line(*medium);
    for (const std::string& encoder : encoders) {
      CAPTURE(encoder);
      const auto kind = encoder_kind(encoder);
      CHECK(encoder_help(*medium).find(fmt::format(" {}:", first_word(encoder))) != std::string::npos);
      SequenceReader reader = line.reader({encoder}, {});
      CHECK(mix_name(reader.examples().all[0].mix()) == medium->name);
      CHECK(reader.examples().all[0].has(medium->name));
      const Sequence sequence = *reader.read(0);
      REQUIRE(sequence.parts.size() == 1);
      const Features& features = sequence.parts[0].features;
      CHECK(features.width == kind->width());
      CHECK(features.rows() >= 1);
      CHECK(sequence.size() == features.rows() + 3);  // two delimiters, and the answer
      const int64_t cached = reader.cached_bytes();
      CHECK(cached >= kind->read(std::string(HONE_TEST_DATA) + "/media/" + medium->example).bytes());
      CHECK(features_of(reader, 0) == features.values);
      CHECK(reader.cached_bytes() == cached);
      Random random(1, "noise");
      CHECK(kind->features(kind->noise(random), "noise").width == kind->width());
    }
    try {
      line.reader({}, {});
      FAIL("a model without encoders takes it");
    } catch (const Error& error) {
      CHECK(std::string(error.what()).find(fmt::format("is of a kind, {}, that", medium->name)) != std::string::npos);
    }
  }
}

TEST_CASE("the changes of every medium are a function of the seed, and none without one") {
  for (const Medium* medium : all_media()) {
    CAPTURE(std::string(medium->name));
    const MediumLine line(*medium);
    for (const std::string& encoder : encoders_for(*medium)) {
      CAPTURE(encoder);
      SequenceReader plain = line.reader({encoder}, {});
      const std::vector<float> features = features_of(plain, 0);
      CHECK(features_of(plain, 7) == features);  // there is nothing to change
      if (!medium->augmentation) continue;
      FeedSettings settings;
      settings.augmentations[medium->name] = medium->augmentation(all_changes(*medium), "--changes");
      SequenceReader changing = line.reader({encoder}, settings);
      CHECK(features_of(changing, 0) == features);
      CHECK(features_of(changing, 7) != features);
      CHECK(features_of(changing, 7) == features_of(changing, 7));
      CHECK(features_of(changing, 7) != features_of(changing, 8));
      // Of another medium nothing is changed.
      FeedSettings other;
      other.augmentations["text"] = settings.augmentations[medium->name];
      SequenceReader unchanged = line.reader({encoder}, other);
      CHECK(features_of(unchanged, 7) == features);
    }
  }
}

TEST_CASE("a sound of finite samples whose spectrum is not finite is refused") {
  const Decoded loud(media::Sound{8000, std::vector<float>(800, 1e30f)});
  CHECK_THROWS_WITH_AS(encoder_kind("mel:8:8000:25/10:2")->features(loud, "it"),
                       "it is a sound of samples so large that its spectrum is not of finite numbers", Error);
}
