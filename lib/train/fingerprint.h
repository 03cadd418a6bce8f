// A checksum of a text's tokens: whether a run is resumed on the very text that it began with.
#pragma once

#include <string>

#include "dataset/corpus.h"

namespace hone {

// XXH3 (64 bits, hexadecimal) over the checksums of the tokens, a million at a time: of ids, so of the tokenizer too.
// Throws Stopped.
std::string fingerprint(const Corpus& text);

}  // namespace hone
