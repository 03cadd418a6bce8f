#include "cli/example_options.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/log.h"
#include "base/spelling.h"
#include "cli/effects.h"
#include "dataset/examples.h"

namespace hone::cli {
namespace {

constexpr const char *infonce = "infonce", *siglip = "siglip";

std::string augment_option(const Medium& medium) {
  return fmt::format("--augment-{}", medium.name);
}

// "0.5:image,audio" -> 0.5 and the two; without names the usual pair.
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
    throw usage_error("--contrastive '{}': write WEIGHT or WEIGHT:{},{}, the weight above 0", text,
                      usual_pair()[0]->name, usual_pair()[1]->name);
  std::vector<std::string> media = {usual_pair()[0]->name, usual_pair()[1]->name};
  if (colon == text.npos) return {static_cast<float>(weight), media};
  const std::string both = text.substr(colon + 1);
  const size_t comma = both.find(',');
  if (comma != both.npos) media = {both.substr(0, comma), both.substr(comma + 1)};
  const std::vector<std::string> all = media_words(&Medium::name);
  const auto known = [&](const std::string& name) { return std::ranges::find(all, name) != all.end(); };
  if (comma == both.npos || !std::ranges::all_of(media, known) || media[0] == media[1])
    throw usage_error("--contrastive '{}': '{}' is not two of {} with a comma between", text, both, each_of(all));
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
  const auto [left, right] = usual_pair();
  const std::string plurals = each_of(media_words(&Medium::plural));
  run.text("--contrastive", contrastive,
           fmt::format("W or W:{},{}: also learn, with weight W, to find the {} of a line by its {} among those of a "
                       "batch, and the {} by its {}",
                       left->name, right->name, right->noun, left->noun, left->noun, right->noun))
      .shapes(Shapes::run);
  run.text("--contrastive-loss", contrastive_loss,
           "siglip (each pair by itself) or infonce (each against all others of the batch)", {siglip, infonce})
      .shapes(Shapes::run);
  for (const Medium* medium : all_media())
    if (medium->augmentation)
      run.text(augment_option(*medium), augment[place_of(*medium)], medium->augmentation_help).shapes(Shapes::run);
  run.bytes("--media-cache", media_cache,
            fmt::format("Decoded {} that are kept in memory; the rest is read again", plurals))
      .shapes(Shapes::nothing);
  run.flag("--skip-broken", skip_broken, fmt::format("Leave out {} that cannot be read, and count them", plurals))
      .shapes(Shapes::run);
}

bool ExampleOptions::taken(const std::vector<std::string>& data) const {
  if (loss != "all") return !data.empty();
  return std::ranges::any_of(data, [](const std::string& path) { return path != "-" && holds_parts(path); });
}

FeedSettings ExampleOptions::feed(bool augmented) const {
  FeedSettings settings;
  settings.loss = loss_rows(loss);
  if (augmented)
    for (const Medium* medium : all_media())
      if (medium->augmentation)
        settings.augmentations[medium->name] =
            medium->augmentation(augment[place_of(*medium)], augment_option(*medium));
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
    throw usage_error("--contrastive has no effect on windows of text; give lines with {} and {}",
                      with_article(usual_pair()[0]->noun), with_article(usual_pair()[1]->noun));
  constexpr const char* windows = "on windows of text";
  std::vector<Idle> idle;
  for (const Medium* medium : all_media())
    if (medium->augmentation) idle.push_back({augment_option(*medium), !examples, windows});
  idle.insert(idle.end(), {{"--media-cache", !examples, windows},
                           {"--skip-broken", !examples, windows},
                           {"--shuffle", examples, "on lines of their own"},
                           {"--valid-tokens", examples, "on lines of their own"}});
  warn_of_idle(app, idle);
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
