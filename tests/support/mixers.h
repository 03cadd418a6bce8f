// Kinds of mixers that tests walk.
#pragma once

#include <string>
#include <vector>

#include "nn/mixer.h"

namespace hone::test {

// A name of each kind that predicts what comes next and can be followed by a state.
inline std::vector<std::string> causal_mixers() {
  std::vector<std::string> names = mixer_examples();
  std::erase_if(names, [](const std::string& name) {
    return !Mixer::make({.dim = 48, .head_dim = 16}, {2, 2, 0, name})->causal();
  });
  return names;
}

}  // namespace hone::test
