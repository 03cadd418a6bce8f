#include "nn/mixer.h"

#include <fmt/ranges.h>

#include <sstream>

#include "base/error.h"
#include "base/kind_name.h"
#include "base/spelling.h"
#include "nn/attention/attention.h"

namespace hone {

// Each in a file of its own, nn/mixers/NAME.cpp.
MixerFamily short_conv_mixer();

namespace {

const std::vector<MixerFamily>& families() {
  static const std::vector<MixerFamily> rows = {
      {attention_kinds, attention_examples, check_attention, make_mixer<Attention>},
      short_conv_mixer(),
  };
  return rows;
}

const MixerFamily& family_of(const std::string& name) {
  for (const MixerFamily& family : families())
    for (const std::string& kind : family.kinds())
      if (first_word(kind) == first_word(name)) return family;
  throw unknown_name("kind of attention", name, mixer_kinds());
}

std::vector<std::string> of_all(std::vector<std::string> (*MixerFamily::*names)()) {
  std::vector<std::string> all;
  for (const MixerFamily& family : families())
    for (std::string& name : (family.*names)()) all.push_back(std::move(name));
  return all;
}

}  // namespace

std::unique_ptr<Mixer> Mixer::make(const BlockBlueprint& blueprint, const LayerBlueprint& layer, const Share& share) {
  return family_of(layer.attention).make(blueprint, layer, share);
}

std::vector<std::string> mixer_kinds() {
  return of_all(&MixerFamily::kinds);
}

std::vector<std::string> mixer_examples() {
  return of_all(&MixerFamily::examples);
}

void check_mixer(const std::string& name, int64_t context) {
  family_of(name).check(name, context);
}

bool attends(const std::string& name) {
  return family_of(name).attends;
}

bool share_parameters(const std::string& a, const std::string& b) {
  const MixerFamily& family = family_of(a);
  return &family == &family_of(b) && (!family.shares_parameters || family.shares_parameters(a, b));
}

std::vector<std::string> mixer_by_layer(const std::string& kinds, size_t layers) {
  std::vector<std::string> listed;
  std::istringstream stream(kinds + ",");
  for (std::string kind; std::getline(stream, kind, ',');) {
    check_mixer(kind);
    listed.push_back(kind);
  }
  if (listed.size() > layers)
    throw usage_error("attention '{}' names {} kinds for {}", kinds, listed.size(), counted(layers, "layer"));
  std::vector<std::string> result;
  for (size_t i = 0; i < layers; ++i) result.push_back(listed[i % listed.size()]);
  return result;
}

std::string mixer_list(const std::vector<std::string>& by_layer) {
  size_t period = 1;
  const auto repeats = [&] {
    for (size_t i = period; i < by_layer.size(); ++i)
      if (by_layer[i] != by_layer[i - period]) return false;
    return true;
  };
  while (period < by_layer.size() && !repeats()) ++period;
  return fmt::format("{}", fmt::join(by_layer.begin(), by_layer.begin() + static_cast<int64_t>(period), ","));
}

}  // namespace hone
