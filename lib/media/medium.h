// The kinds of what enters a model beside text: one table. Lines of examples, options and their help, messages, reports
// and augmentation all walk it.
//
// A new medium is a file here, beside image.h and sound.h: the type that its files become, a function that reads them,
// a row. Then a line in the table of medium.cpp. What turns it into rows of a model is a kind of nn/encoders/.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "media/augmentation.h"

namespace hone {

struct Medium {
  const char* name;     // of the member of a JSON line, of options, in model files and reports: lower-case letters
  const char* noun;     // in sentences: "image", "sound"
  const char* plural;   // "images"
  const char* file;     // what people have of it, in help: "Picture (PNG, JPEG)"
  const char* example;  // such a file's name, in messages
  // What the option that changes them says, and what its text gives: null where that changes nothing. Throws
  // Error(usage), with `option`. Null, both: nothing of this medium is changed, and there is no option.
  const char* augmentation_help;
  std::shared_ptr<const Augmentation> (*augmentation)(const std::string& text, const std::string& option);
};

std::span<const Medium* const> all_media();
size_t place_of(const Medium& medium);                                  // in the table
std::vector<std::string> media_words(const char* const Medium::*word);  // of each row, for sentences and lists
std::array<const Medium*, 2> usual_pair();                              // who find each other where nobody is named

// Media that stand together in an example, in the order of the table.
using MediaMix = std::vector<const Medium*>;
std::string mix_name(const MediaMix& mix);  // "image", "image_audio"; without any "text"
std::vector<MediaMix> media_mixes();        // all but that, the smaller ones first

}  // namespace hone
