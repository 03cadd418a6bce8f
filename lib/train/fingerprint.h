// Checksums of what is trained on: whether a run is resumed on the very text that it began with, and whether ranks have
// the same.
#pragma once

#include <string>

#include "dataset/corpus.h"
#include "dataset/examples.h"

namespace hone {

// XXH3 (64 bits, hexadecimal) over the checksums of the tokens, a million at a time: of ids, so of the tokenizer too.
// Throws Stopped.
std::string fingerprint(const Corpus& text);
// The same of lines: their texts, the names of their images and sounds, answers and weights.
std::string fingerprint(const Examples& lines);
// And over what is in the files that they name, each read whole once; one that cannot be read counts as such. Throws
// Stopped.
std::string fingerprint_of_files(const Examples& lines);

}  // namespace hone
