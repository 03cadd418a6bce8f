#include "media/medium.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <regex>
#include <set>

#include "base/error.h"
#include "media/image.h"
#include "media/sound.h"

using namespace hone;
using namespace hone::media;

namespace {

template <class F>
std::string augmentation_refusal(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// The names in "a comma list of shift:PIXELS, rotate:DEGREES".
std::vector<std::string> numbers_in_help(const std::string& help) {
  const std::regex number("([a-z]+):[A-Z]+");
  std::vector<std::string> names;
  for (std::sregex_iterator at(help.begin(), help.end(), number), end; at != end; ++at) names.push_back((*at)[1]);
  return names;
}

}  // namespace

TEST_CASE("each medium is a row with a name and words of its own") {
  std::set<std::string> names = {"text"}, examples;
  for (const Medium* medium : all_media()) {
    REQUIRE(medium->name);
    const std::string name = medium->name;
    CAPTURE(name);
    // An option, a member of JSON and a part of metrics' names, which an underscore joins.
    CHECK(std::regex_match(name, std::regex("[a-z]+")));
    CHECK(names.insert(name).second);
    for (const char* word : {medium->noun, medium->plural, medium->file}) {
      REQUIRE(word);
      CHECK(std::string(word) != "");
    }
    REQUIRE(medium->example);
    CHECK(examples.insert(medium->example).second);
    CHECK(all_media()[place_of(*medium)] == medium);
    CHECK(media_words(&Medium::name)[place_of(*medium)] == name);
  }
  CHECK(all_media().size() >= 2);
  CHECK(usual_pair()[0] != usual_pair()[1]);
  // Runs know their lines by these places.
  CHECK(place_of(image_medium) == 0);
  CHECK(place_of(sound_medium) == 1);
}

TEST_CASE("the changes of a medium are those that its help names, each may be 0, and others are refused") {
  for (const Medium* medium : all_media()) {
    CAPTURE(std::string(medium->name));
    REQUIRE((medium->augmentation != nullptr) == (medium->augmentation_help != nullptr));
    if (!medium->augmentation) continue;
    const std::vector<std::string> numbers = numbers_in_help(medium->augmentation_help);
    CHECK(!numbers.empty());
    CHECK(medium->augmentation("", "--option") == nullptr);
    for (const std::string& number : numbers) {
      CAPTURE(number);
      CHECK(medium->augmentation(number + ":0", "--option") == nullptr);
      const bool whole = std::string(medium->augmentation_help).find(number + ":COUNT") != std::string::npos;
      CHECK(medium->augmentation(number + (whole ? ":1" : ":0.1"), "--option") != nullptr);
      const std::string part = number + ":0.1";  // of a count it would do nothing
      CHECK((augmentation_refusal([&] {
               medium->augmentation(part, "--option");
             }).find("'" + number + "' needs a whole number from 0 to ") != std::string::npos) == whole);
    }
    std::string known;
    for (const std::string& number : numbers) known += (known.empty() ? "" : ",") + number + ":NUMBER";
    CHECK(augmentation_refusal([&] { medium->augmentation("nothing:1", "--option"); }) ==
          "--option 'nothing:1': 'nothing:1' is none of " + known);
    const std::string one = numbers.front() + ":0.1", twice = one + "," + one, open = one + ",";
    CHECK(augmentation_refusal([&] { medium->augmentation(twice, "--option"); }) ==
          "--option '" + twice + "': " + numbers.front() + " stands there twice");
    CHECK(augmentation_refusal([&] { medium->augmentation(open, "--option"); }) ==
          "--option '" + open + "': '' is none of " + known);
  }
}

TEST_CASE("mixtures of media: each alone, then several, each once and in the order of the table") {
  const std::vector<MediaMix> mixes = media_mixes();
  const size_t media = all_media().size();
  CHECK(mixes.size() == (size_t{1} << media) - 1);
  std::set<std::string> names;
  for (size_t i = 0; i < mixes.size(); ++i) {
    CHECK(!mixes[i].empty());
    if (i > 0) CHECK(mixes[i - 1].size() <= mixes[i].size());
    CHECK(std::ranges::is_sorted(mixes[i], {}, [](const Medium* medium) { return place_of(*medium); }));
    CHECK(names.insert(mix_name(mixes[i])).second);
  }
  for (size_t m = 0; m < media; ++m) CHECK(mix_name(mixes[m]) == all_media()[m]->name);
  CHECK(mixes.back().size() == media);
  CHECK(mix_name({&image_medium, &sound_medium}) == "image_audio");
  CHECK(mix_name({}) == "text");
}

TEST_CASE("what is decoded knows its bytes, and is no other medium's") {
  const Decoded image = Image{2, 3, 1, std::vector<uint8_t>(6, 9)}, sound = Sound{8000, {0.5f, 0.25f}};
  CHECK(image.bytes() == 6);
  CHECK(sound.bytes() == 8);
  CHECK(image.as<Image>().pixels[5] == 9);
  const Decoded copy = sound;
  CHECK(copy.as<Sound>().samples[1] == 0.25f);
  CHECK(augmentation_refusal([&] { sound.as<Image>(); }).find("another medium") != std::string::npos);
}

TEST_CASE("augmentation is a function of its seed, and none leaves an image as it is") {
  Image image{8, 8, 1, std::vector<uint8_t>(64, 0)};
  for (size_t i = 0; i < 64; ++i) image.pixels[i] = static_cast<uint8_t>(i % 9 == 0 ? 255 : i);
  const auto made = [&](const std::string& text, uint64_t seed) {
    Random random(seed, "augment");
    return augmented(image, image_augmentation(text, "--augment-image"), random).pixels;
  };
  CHECK(made("shift:0", 1) == image.pixels);
  CHECK(made("shift:2,rotate:20,scale:0.2,shear:0.2", 1) == made("shift:2,rotate:20,scale:0.2,shear:0.2", 1));
  CHECK(made("shift:2,rotate:20", 1) != made("shift:2,rotate:20", 2));
  CHECK(augmentation_refusal([&] { made("shift", 1); }).find("'shift' is none of shift:NUMBER") != std::string::npos);
  CHECK(augmentation_refusal([&] { made("scale:7", 1); }).find("from 0 to 0.9") != std::string::npos);

  Sound sound{1000, std::vector<float>(500, 0.5f)};
  Random random(1, "augment");
  const Sound same = augmented(sound, {}, random);
  CHECK(same.samples.size() == 500);
  CHECK(same.samples[100] == doctest::Approx(0.5f));
  const Sound faster = augmented(sound, sound_augmentation("speed:0.5", "--augment-audio"), random);
  CHECK(faster.samples.size() != 500);
}
