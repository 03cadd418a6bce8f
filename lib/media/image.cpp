#include "media/image.h"

#include <png.h>
#include <turbojpeg.h>

#include <cstring>
#include <memory>

#include "base/error.h"
#include "media/file_bytes.h"

namespace hone::media {
namespace {

// libpng's simplified interface.
Image read_png(const std::vector<uint8_t>& bytes, int64_t channels, const ImageLimit& limit, const std::string& path) {
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  const std::unique_ptr<png_image, void (*)(png_image*)> freed(&png, png_image_free);
  if (!png_image_begin_read_from_memory(&png, bytes.data(), bytes.size()))
    throw input_error("'{}' is no PNG that can be read: {}", path, png.message);
  check_size(png.height, png.width, limit, "'" + path + "'");
  png.format = channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  Image image{png.height, png.width, channels, {}};
  image.pixels.resize(static_cast<size_t>(image.height * image.width * channels));
  const png_color black = {0, 0, 0};
  if (!png_image_finish_read(&png, &black, image.pixels.data(), 0, nullptr))
    throw input_error("'{}' is a damaged PNG: {}", path, png.message);
  return image;
}

Image read_jpeg(const std::vector<uint8_t>& bytes, int64_t channels, const ImageLimit& limit, const std::string& path) {
  const std::unique_ptr<void, int (*)(tjhandle)> reader(tjInitDecompress(), tjDestroy);
  if (!reader) throw internal_error("libturbojpeg cannot be started: {}", tjGetErrorStr2(nullptr));
  int width = 0, height = 0, sampling = 0, colours = 0;
  const auto damaged = [&] {
    return input_error("'{}' is no JPEG that can be read: {}", path, tjGetErrorStr2(reader.get()));
  };
  if (tjDecompressHeader3(reader.get(), bytes.data(), bytes.size(), &width, &height, &sampling, &colours) != 0)
    throw damaged();
  check_size(height, width, limit, "'" + path + "'");
  Image image{height, width, channels, {}};
  image.pixels.resize(static_cast<size_t>(image.height * image.width * channels));
  // A JPEG that ends early is a warning of the library's, and the rest grey: an error here.
  if (tjDecompress2(reader.get(), bytes.data(), bytes.size(), image.pixels.data(), width, 0, height,
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
  constexpr uint8_t png_magic[] = {0x89, 'P', 'N', 'G'};
  if (bytes.size() > 4 && std::memcmp(bytes.data(), png_magic, 4) == 0) return read_png(bytes, channels, limit, path);
  if (bytes.size() > 2 && bytes[0] == 0xff && bytes[1] == 0xd8) return read_jpeg(bytes, channels, limit, path);
  throw input_error("'{}' is neither a PNG nor a JPEG image", path);
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

}  // namespace hone::media
