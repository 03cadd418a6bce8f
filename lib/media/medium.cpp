#include "media/medium.h"

#include <algorithm>
#include <bit>

#include "media/image.h"
#include "media/sound.h"

namespace hone {
namespace {

// In the order of options, reports and sentences. A new one comes last: runs know their lines by the places here.
constexpr std::array table = {&media::image_medium, &media::sound_medium};

}  // namespace

std::span<const Medium* const> all_media() {
  return table;
}

size_t place_of(const Medium& medium) {
  return static_cast<size_t>(std::ranges::find(table, &medium) - table.begin());
}

std::vector<std::string> media_words(const char* const Medium::*word) {
  std::vector<std::string> words;
  for (const Medium* medium : table) words.emplace_back(medium->*word);
  return words;
}

std::array<const Medium*, 2> usual_pair() {
  return {table[0], table[1]};
}

std::string mix_name(const MediaMix& mix) {
  if (mix.empty()) return "text";
  std::string name = mix.front()->name;
  for (const Medium* medium : std::span(mix).subspan(1)) name += std::string("_") + medium->name;
  return name;
}

std::vector<MediaMix> media_mixes() {
  std::vector<MediaMix> mixes;
  for (size_t size = 1; size <= table.size(); ++size)
    for (uint32_t set = 1; set < 1u << table.size(); ++set) {
      if (std::popcount(set) != static_cast<int>(size)) continue;
      MediaMix& mix = mixes.emplace_back();
      for (size_t m = 0; m < table.size(); ++m)
        if (set >> m & 1) mix.push_back(table[m]);
    }
  return mixes;
}

}  // namespace hone
