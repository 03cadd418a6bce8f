#include "media/image.h"

#include <png.h>
#include <turbojpeg.h>

#include <cmath>
#include <memory>
#include <numbers>

#include "base/error.h"
#include "media/file_bytes.h"

namespace hone::media {
namespace {

// libpng's simplified interface.
Image read_png(std::string_view bytes, int64_t channels, const ImageLimit& limit, const std::string& where) {
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  const std::unique_ptr<png_image, void (*)(png_image*)> freed(&png, png_image_free);
  if (!png_image_begin_read_from_memory(&png, bytes.data(), bytes.size()))
    throw input_error("{} is no PNG that can be read: {}", where, png.message);
  check_size(png.height, png.width, limit, where);
  png.format = channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  Image image{png.height, png.width, channels, {}};
  image.pixels.resize(static_cast<size_t>(image.height * image.width * channels));
  const png_color black = {0, 0, 0};
  if (!png_image_finish_read(&png, &black, image.pixels.data(), 0, nullptr))
    throw input_error("{} is a damaged PNG: {}", where, png.message);
  return image;
}

Image read_jpeg(std::string_view bytes, int64_t channels, const ImageLimit& limit, const std::string& where) {
  const std::unique_ptr<void, int (*)(tjhandle)> reader(tjInitDecompress(), tjDestroy);
  if (!reader) throw internal_error("libturbojpeg cannot be started: {}", tjGetErrorStr2(nullptr));
  int width = 0, height = 0, sampling = 0, colours = 0;
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  const auto damaged = [&] {
    return input_error("{} is no JPEG that can be read: {}", where, tjGetErrorStr2(reader.get()));
  };
  if (tjDecompressHeader3(reader.get(), data, bytes.size(), &width, &height, &sampling, &colours) != 0) throw damaged();
  check_size(height, width, limit, where);
  Image image{height, width, channels, {}};
  image.pixels.resize(static_cast<size_t>(image.height * image.width * channels));
  // A JPEG that ends early is a warning of the library's, and the rest grey: an error here.
  if (tjDecompress2(reader.get(), data, bytes.size(), image.pixels.data(), width, 0, height,
                    channels == 1 ? TJPF_GRAY : TJPF_RGB, TJFLAG_ACCURATEDCT) != 0)
    throw damaged();
  return image;
}

}  // namespace

void check_size(int64_t height, int64_t width, const ImageLimit& limit, const std::string& where) {
  if (height < 1 || width < 1)
    throw input_error("{} is an image of {} x {} pixels: nothing to see", where, height, width);
  if (height > limit.height || width > limit.width)
    throw input_error("{} is an image of {} x {} pixels (height x width), beyond the largest of {} x {}", where, height,
                      width, limit.height, limit.width);
}

Image read_image(const std::string& path, int64_t channels, const ImageLimit& limit) {
  const std::vector<uint8_t> bytes = read_bytes(path);
  return decode_image({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, channels, limit, "'" + path + "'");
}

Image decode_image(std::string_view bytes, int64_t channels, const ImageLimit& limit, const std::string& where) {
  if (bytes.size() > 4 && bytes.starts_with("\x89PNG")) return read_png(bytes, channels, limit, where);
  if (bytes.size() > 2 && bytes.starts_with("\xff\xd8")) return read_jpeg(bytes, channels, limit, where);
  throw input_error("{} is neither a PNG nor a JPEG image", where);
}

Image with_channels(Image image, int64_t channels) {
  if (image.channels == channels) return image;
  Image other{image.height, image.width, channels, {}};
  const auto pixels = static_cast<size_t>(image.height * image.width);
  other.pixels.reserve(pixels * static_cast<size_t>(channels));
  for (size_t p = 0; p < pixels; ++p) {
    if (channels == 3) {
      other.pixels.insert(other.pixels.end(), 3, image.pixels[p]);
    } else {
      const uint8_t* rgb = image.pixels.data() + 3 * p;
      other.pixels.push_back(static_cast<uint8_t>((299 * rgb[0] + 587 * rgb[1] + 114 * rgb[2] + 500) / 1000));
    }
  }
  return other;
}

ImageAugmentation image_augmentation(const std::string& text, const std::string& option) {
  ImageAugmentation a;
  const AugmentationNumber numbers[] = {
      {"shift", &a.shift, 1000}, {"rotate", &a.rotate, 180}, {"scale", &a.scale, 0.9}, {"shear", &a.shear, 1}};
  parse_augmentation(text, option, numbers);
  return a;
}

Image augmented(const Image& image, const ImageAugmentation& by, Random& random) {
  const double dy = drawn(by.shift, random), dx = drawn(by.shift, random);
  const double angle = drawn(by.rotate, random) * std::numbers::pi / 180;
  const double zoom_y = 1 / (1 + drawn(by.scale, random)), zoom_x = 1 / (1 + drawn(by.scale, random));
  const double shear = drawn(by.shear, random);
  const double cy = static_cast<double>(image.height - 1) / 2, cx = static_cast<double>(image.width - 1) / 2;
  Image out = image;
  const auto at = [&](int64_t y, int64_t x, int64_t c) -> double {
    const bool inside = y >= 0 && y < image.height && x >= 0 && x < image.width;
    return image.pixels[static_cast<size_t>(inside ? (y * image.width + x) * image.channels + c : c)];
  };
  const double cosine = std::cos(angle), sine = std::sin(angle);
  for (int64_t y = 0; y < image.height; ++y)
    for (int64_t x = 0; x < image.width; ++x) {
      // Where the pixel comes from.
      const double v = static_cast<double>(y) - cy - dy, u = static_cast<double>(x) - cx - dx;
      const double fy = (cosine * v - sine * u) * zoom_y + cy;
      const double fx = (sine * v + cosine * u + shear * v) * zoom_x + cx;
      const auto y0 = static_cast<int64_t>(std::floor(fy)), x0 = static_cast<int64_t>(std::floor(fx));
      const double wy = fy - std::floor(fy), wx = fx - std::floor(fx);
      for (int64_t c = 0; c < image.channels; ++c) {
        const double upper = (1 - wx) * at(y0, x0, c) + wx * at(y0, x0 + 1, c);
        const double lower = (1 - wx) * at(y0 + 1, x0, c) + wx * at(y0 + 1, x0 + 1, c);
        out.pixels[static_cast<size_t>((y * image.width + x) * image.channels + c)] =
            static_cast<uint8_t>(std::lround((1 - wy) * upper + wy * lower));
      }
    }
  return out;
}

namespace {

class ImageChanges : public Augmentation {
 public:
  explicit ImageChanges(const ImageAugmentation& by) : by_(by) {}
  Decoded changed(const Decoded& decoded, Random& random) const override {
    return augmented(decoded.as<Image>(), by_, random);
  }

 private:
  ImageAugmentation by_;
};

std::shared_ptr<const Augmentation> image_changes(const std::string& text, const std::string& option) {
  const ImageAugmentation by = image_augmentation(text, option);
  return by.any() ? std::make_shared<const ImageChanges>(by) : nullptr;
}

}  // namespace

constinit const Medium image_medium = {
    .name = "image",
    .noun = "image",
    .plural = "images",
    .file = "Picture (PNG, JPEG, or FILE#N: entry N of an IDX file)",
    .example = "a.png",
    .augmentation_help =
        "Change images a little each time, a comma list of shift:PIXELS, rotate:DEGREES, scale:PART, "
        "shear:PART: the most",
    .augmentation = image_changes};

}  // namespace hone::media
