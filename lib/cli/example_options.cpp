#include "cli/example_options.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/log.h"
#include "cli/effects.h"
#include "dataset/examples.h"
#include "nn/encoders/encoder.h"

namespace hone::cli {
namespace {

constexpr const char *infonce = "infonce", *siglip = "siglip";

// "0.5:image,audio" -> 0.5 and the two; without names these two.
std::pair<float, std::vector<std::string>> parse_contrastive(const std::string& text) {
  const size_t colon = text.find(':');
  double weight = 0;
  try {
    size_t end = 0;
    weight = std::stod(text.substr(0, colon), &end);
    if (end != std::min(colon, text.size())) weight = 0;
  } catch (const std::exception&) {
  }
  if (!(weight > 0) || !std::isfinite(weight))
    throw usage_error("--contrastive '{}': write WEIGHT or WEIGHT:image,audio, the weight above 0", text);
  std::vector<std::string> media = {name_of(Medium::image), name_of(Medium::audio)};
  if (colon == text.npos) return {static_cast<float>(weight), media};
  const std::string both = text.substr(colon + 1);
  const size_t comma = both.find(',');
  if (comma != both.npos) media = {both.substr(0, comma), both.substr(comma + 1)};
  const auto known = [](const std::string& name) {
    return name == name_of(Medium::image) || name == name_of(Medium::audio);
  };
  if (comma == both.npos || !std::ranges::all_of(media, known) || media[0] == media[1])
    throw usage_error("--contrastive '{}': '{}' is not two of image and audio with a comma between", text, both);
  return {static_cast<float>(weight), media};
}

}  // namespace

void ExampleOptions::add(RunOptions& run) {
  run.text(
         "--loss", loss,
         "What of JSON lines is learned: their answers, their text, or all. With another than all, and with \"parts\", "
         "each line is a sequence of its own",
         {"answers", "text", "all"})
      .shapes(Shapes::run);
  run.text("--contrastive", contrastive,
           "W or W:image,audio: also learn, with weight W, to find the sound of a line by its image among those of a "
           "batch, and the image by its sound")
      .shapes(Shapes::run);
  run.text("--contrastive-loss", contrastive_loss,
           "infonce (each against all others) or siglip (each pair by itself, for batches of few pairs)",
           {infonce, siglip})
      .shapes(Shapes::run);
  run.text("--augment-image", augment_image,
           "Change images a little each time, a comma list of shift:PIXELS, rotate:DEGREES, scale:PART, shear:PART: "
           "the most")
      .shapes(Shapes::run);
  run.text("--augment-audio", augment_audio,
           "Change sounds, a comma list of shift:SECONDS, speed:PART, gain:DECIBELS, masks:COUNT: the most")
      .shapes(Shapes::run);
  run.bytes("--media-cache", media_cache, "Decoded images and sounds that are kept in memory; the rest is read again")
      .shapes(Shapes::nothing);
  run.flag("--skip-broken", skip_broken, "Leave out images and sounds that cannot be read, and count them")
      .shapes(Shapes::run);
}

bool ExampleOptions::taken(const std::vector<std::string>& data) const {
  if (loss != "all") return !data.empty();
  return std::ranges::any_of(data, [](const std::string& path) { return path != "-" && holds_parts(path); });
}

FeedSettings ExampleOptions::feed(bool augmented) const {
  FeedSettings settings;
  settings.loss = loss_rows(loss);
  if (augmented) settings.image = image_augmentation(augment_image, "--augment-image");
  if (augmented) settings.sound = sound_augmentation(augment_audio, "--augment-audio");
  settings.cache_bytes = media_cache;
  settings.skip_broken = skip_broken;
  return settings;
}

ContrastiveSettings ExampleOptions::contrast() const {
  if (contrastive.empty()) return {};
  return {parse_contrastive(contrastive).first,
          contrastive_loss == siglip ? ops::ContrastiveLoss::siglip : ops::ContrastiveLoss::infonce};
}

std::vector<std::string> ExampleOptions::contrasted_media() const {
  return contrastive.empty() ? std::vector<std::string>() : parse_contrastive(contrastive).second;
}

void ExampleOptions::check(const CLI::App& app) const {
  feed(true);
  contrast();
  if (contrastive.empty() && given(app, "--contrastive-loss"))
    throw usage_error("--contrastive-loss has no effect without --contrastive");
}

void ExampleOptions::check_effects(const CLI::App& app, bool examples) const {
  if (!contrastive.empty() && !examples)
    throw usage_error("--contrastive has no effect on windows of text; give lines with an image and a sound");
  constexpr const char* windows = "on windows of text";
  warn_of_idle(app, {{"--augment-image", !examples, windows},
                     {"--augment-audio", !examples, windows},
                     {"--media-cache", !examples, windows},
                     {"--skip-broken", !examples, windows},
                     {"--shuffle", examples, "on lines of their own"},
                     {"--valid-tokens", examples, "on lines of their own"}});
}

void ExampleOptions::check_pairs(const Examples& lines, int64_t batch) const {
  if (contrastive.empty()) return;
  if (batch < 2)
    throw usage_error(
        "--contrastive tells the pairs of a batch from each other, and batches have {} line: use a "
        "larger --batch, or fewer ranks",
        batch);
  const std::vector<std::string> media = contrasted_media();
  const int64_t pairs = std::ranges::count_if(lines.all, [&](const Example& line) {
    return std::ranges::all_of(media, [&](const std::string& medium) { return line.has(medium); });
  });
  if (pairs < 2)
    throw input_error("{}: {} of {} examples ha{} both, {} and {}, and --contrastive needs two to tell apart",
                      lines.name(), pairs, lines.all.size(), pairs == 1 ? "s" : "ve", media[0], media[1]);
  if (pairs * batch < 2 * static_cast<int64_t>(lines.all.size()))
    log_warning(
        "{} of {} examples have {} and {}: most batches of {} have fewer than the two pairs that --contrastive "
        "needs, and are trained without it",
        pairs, lines.all.size(), media[0], media[1], batch);
}

}  // namespace hone::cli
