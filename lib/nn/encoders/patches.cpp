// An image in patches that do not overlap, each of which is projected to a row, with learned positions in two
// dimensions: one for its row of patches and one for its column. Alone, or with layers in which all patches see each
// other before the model reads them (ViT: Dosovitskiy et al., arXiv 2010.11929).
#include "base/error.h"
#include "nn/encoders/kinds.h"
#include "nn/encoders/layers.h"

namespace hone {
namespace {

constexpr const char* patches_form = "patches:HEIGHTxWIDTH[:GREY|RGB][:MAXxMAX]";
constexpr const char* vit_form = "vit:HEIGHTxWIDTH:LAYERS[:GREY|RGB][:MAXxMAX]";

class Patches : public EncoderKind {
 public:
  Patches(const std::string& name, const char* form, bool layered) {
    std::vector<std::string> words = words_of(name, form);
    const auto pair = [&](const std::string& word, int64_t most) {
      return numbers_in(word, 'x', 2, 1, most, name, form);
    };
    const std::vector<int64_t> patch = pair(words[0], 256);
    height_ = patch[0];
    width_ = patch[1];
    size_t next = 1;
    if (layered) layers_ = numbers_in(words[next++], ':', 1, 1, 1 << 10, name, form)[0];
    if (next < words.size() && (words[next] == "GREY" || words[next] == "RGB")) colours_ = words[next++] == "RGB";
    if (next < words.size()) {
      const std::vector<int64_t> largest = pair(words[next++], 1 << 14);
      most_height_ = largest[0];
      most_width_ = largest[1];
    }
    if (next < words.size())
      throw usage_error("encoder '{}': '{}' is neither GREY nor RGB; write {}", name, words[next], form);
    if (most_height_ < height_ || most_width_ < width_)
      throw usage_error("encoder '{}': the largest image is smaller than a patch", name);
  }

  std::string name() const override {
    return fmt::format("{}:{}x{}:{}{}:{}x{}", layers_ > 0 ? "vit" : "patches", height_, width_,
                       layers_ > 0 ? fmt::format("{}:", layers_) : "", colours_ ? "RGB" : "GREY", most_height_,
                       most_width_);
  }
  const Medium& medium() const override { return media::image_medium; }
  int64_t width() const override { return height_ * width_ * (colours_ ? 3 : 1); }

  Decoded read(const std::string& path) const override {
    return media::read_image(path, colours_ ? 3 : 1, {most_height_, most_width_});
  }
  Decoded decode(std::string_view bytes, const std::string& where, int64_t) const override {
    return media::decode_image(bytes, colours_ ? 3 : 1, {most_height_, most_width_}, where);
  }
  Decoded adopted(media::Image image, const std::string& where) const override {
    media::check_size(image.height, image.width, {most_height_, most_width_}, where);
    return media::with_channels(std::move(image), colours_ ? 3 : 1);
  }

  Decoded noise(Random& random) const override {
    media::Image image{most_height_, most_width_, colours_ ? 3 : 1, {}};
    image.pixels.resize(static_cast<size_t>(image.height * image.width * image.channels));
    for (uint8_t& pixel : image.pixels) pixel = static_cast<uint8_t>(random.below(256));
    return image;
  }

  // Rows of patches from the top, in each from the left; of a patch its rows of pixels, from -1 (black) to 1. What
  // hangs over the image's edge is black.
  Features features(const Decoded& decoded, const std::string&) const override {
    const auto& image = decoded.as<media::Image>();
    const int64_t rows = (image.height + height_ - 1) / height_, columns = (image.width + width_ - 1) / width_;
    const int64_t channels = image.channels;
    Features f{std::vector<float>(static_cast<size_t>(rows * columns * width()), -1.0f), width(), columns};
    for (int64_t y = 0; y < image.height; ++y)
      for (int64_t x = 0; x < image.width; ++x) {
        const int64_t patch = y / height_ * columns + x / width_, inside = y % height_ * width_ + x % width_;
        for (int64_t c = 0; c < channels; ++c) {
          const uint8_t pixel = image.pixels[static_cast<size_t>((y * image.width + x) * channels + c)];
          f.values[static_cast<size_t>(patch * width() + inside * channels + c)] =
              static_cast<float>(pixel) / 127.5f - 1.0f;
        }
      }
    return f;
  }

  // Of rows of patches and of columns. What is left of an image at its right and lower edge is a patch, too.
  std::vector<int64_t> tables() const override {
    return {(most_height_ + height_ - 1) / height_, (most_width_ + width_ - 1) / width_};
  }
  int64_t place(size_t table, int64_t row, const Features& features) const override {
    return table == 0 ? row / features.columns : row % features.columns;
  }

  std::unique_ptr<EncoderBody> body(const BlockBlueprint& blueprint) const override {
    return layers_ > 0 ? encoder_body_of_layers(blueprint, layers_) : nullptr;
  }

 private:
  int64_t height_ = 0, width_ = 0, most_height_ = 224, most_width_ = 224, layers_ = 0;
  bool colours_ = false;
};

}  // namespace

EncoderRow patches_encoder() {
  return {patches_form, "patches:2x3:GREY:8x9",
          [](const std::string& name) -> std::shared_ptr<const EncoderKind> {
            return std::make_shared<Patches>(name, patches_form, false);
          },
          "cut into patches: patches:HxW[:GREY|RGB][:MAXxMAX], the largest 224x224 by default"};
}

EncoderRow vit_encoder() {
  return {vit_form, "vit:2x3:2:GREY:8x9",
          [](const std::string& name) -> std::shared_ptr<const EncoderKind> {
            return std::make_shared<Patches>(name, vit_form, true);
          },
          "the same through layers in which all patches see each other: vit:HxW:LAYERS[:GREY|RGB][:MAXxMAX]"};
}

}  // namespace hone
