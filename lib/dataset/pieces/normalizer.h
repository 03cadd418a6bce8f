// The first stage of a tokenizer of others: text to text.
#pragma once

#include <memory>
#include <string>

#include "dataset/pieces/part.h"

namespace hone {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(std::string& text) const = 0;  // valid UTF-8 to valid UTF-8
};

// Throws Error(input) naming a part that is not understood.
std::unique_ptr<const Normalizer> make_normalizer(const TokenizerPart& part);

std::unique_ptr<const Normalizer> make_precompiled(const TokenizerPart& part);  // precompiled.cpp

}  // namespace hone
