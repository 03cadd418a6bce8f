// Small changes of images and sounds that leave what they say: more examples than there are.
#pragma once

#include <string>

#include "base/random.h"
#include "media/image.h"
#include "media/sound.h"
#include "nn/encoders/part.h"

namespace hone {

struct ImageAugmentation {
  double shift = 0;   // pixels, in both directions
  double rotate = 0;  // degrees
  double scale = 0;   // part of the size
  double shear = 0;   // pixels sideways a pixel down

  bool any() const { return shift > 0 || rotate > 0 || scale > 0 || shear > 0; }
};

struct SoundAugmentation {
  double shift = 0;  // seconds of silence before it, or of its beginning left out
  double speed = 0;  // part of the speed, pitch with it
  double gain = 0;   // decibels
  double masks = 0;  // of the spectrogram: bands of up to an eighth of its width and of its length each (SpecAugment,
                     // Park et al., arXiv 1904.08779, without warping)

  bool any() const { return shift > 0 || speed > 0 || gain > 0 || masks > 0; }
};

// "shift:2,rotate:10,scale:0.1": the most that is drawn, evenly, both ways. Throws Error(usage) with `option`.
ImageAugmentation image_augmentation(const std::string& text, const std::string& option);
SoundAugmentation sound_augmentation(const std::string& text, const std::string& option);

// What was drawn from `random`, around the middle of the image, between pixels bilinear; what comes in from outside is
// as its upper left corner.
media::Image augmented(const media::Image& image, const ImageAugmentation& by, Random& random);
media::Sound augmented(const media::Sound& sound, const SoundAugmentation& by, Random& random);
void mask(Features& features, const SoundAugmentation& by, Random& random);

}  // namespace hone
