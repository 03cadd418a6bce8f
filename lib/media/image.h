// Pictures: files, changes, and their row among the media.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "media/medium.h"

namespace hone::media {

// [height, width, channels], 8 bits each; one channel is grey, three are red, green and blue.
struct Image {
  int64_t height = 0, width = 0, channels = 1;
  std::vector<uint8_t> pixels;

  int64_t bytes() const { return static_cast<int64_t>(pixels.size()); }
};

// What a reader takes at most; beyond it nothing is decoded.
struct ImageLimit {
  int64_t height = 1 << 14, width = 1 << 14;
};

// Throws Error(input), with `where`, for an image of no size and for one beyond the limit, naming both sizes.
void check_size(int64_t height, int64_t width, const ImageLimit& limit, const std::string& where);

// A PNG or JPEG file of any colours, as `channels` of 8 bits. What is transparent stands on black. Throws Error(input)
// with the path as check_size() does, for a file that cannot be read, is neither, or is damaged.
Image read_image(const std::string& path, int64_t channels, const ImageLimit& limit);
// The same of such a file's bytes, which `where` names in errors.
Image decode_image(std::string_view bytes, int64_t channels, const ImageLimit& limit, const std::string& where);

// Grey as three equal colours; colours as their luminance (ITU-R BT.601).
Image with_channels(Image image, int64_t channels);

struct ImageAugmentation {
  double shift = 0;   // pixels, in both directions
  double rotate = 0;  // degrees
  double scale = 0;   // part of the size
  double shear = 0;   // pixels sideways a pixel down

  bool any() const { return shift > 0 || rotate > 0 || scale > 0 || shear > 0; }
};

// As parse_augmentation() reads it: "shift:2,rotate:10,scale:0.1". Throws Error(usage) with `option`.
ImageAugmentation image_augmentation(const std::string& text, const std::string& option);

// What was drawn from `random`, around the middle of the image, between pixels bilinear; what comes in from outside is
// as its upper left corner.
Image augmented(const Image& image, const ImageAugmentation& by, Random& random);

extern const Medium image_medium;

}  // namespace hone::media
