// What enters a model beside text: an image, a sound. Each kind of encoder turns features of one, rows of numbers on a
// grid, into rows of the model's width.
//
// A new kind is a file here and a row in the table of encoder.cpp. Its configuration is its name with all its numbers.
// The media that kinds are for are a table of their own: media/medium.h.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "media/image.h"
#include "media/medium.h"
#include "nn/encoders/part.h"
#include "nn/linear.h"
#include "ops/place.h"

namespace hone {

// Layers of an encoder's own, behind its projection.
class EncoderBody {
 public:
  virtual ~EncoderBody() = default;
  // rows [rows, dim] f32, projected and with their positions -> [rows, dim]. The call is of these rows alone: a span a
  // part, whose rows are together (Span::together), without ranks, states and traces.
  virtual Var forward(const Var& rows, const Call& call) const = 0;
  // Whatever roles it shows, its weights are the encoder's (Role::encoder), and the others `of` it.
  virtual void visit(const Place& at, Visitor& visitor) = 0;
  // What it holds in training, as layers of a model.
  virtual std::vector<LayerBlueprint> layers() const = 0;
};

// How a kind of encoder looks at what it is given.
class EncoderKind {
 public:
  virtual ~EncoderKind() = default;
  virtual std::string name() const = 0;  // with every number: "patches:4x4:GREY:64x64"
  virtual const Medium& medium() const = 0;
  virtual int64_t width() const = 0;  // of a row of features
  // A file, and an image of an IDX file, as it wants them: their colours, their rate. Throw Error(input) as the readers
  // of its medium do, and (adopted), with `where`, for an image beyond the largest, or where it takes none. May be
  // called from several threads.
  virtual Decoded read(const std::string& path) const = 0;
  // The same of such a file's bytes; one of which nothing could be used, because it would become more than `most_rows`
  // rows of features, may be refused before it is decoded.
  virtual Decoded decode(std::string_view bytes, const std::string& where, int64_t most_rows) const = 0;
  virtual Decoded adopted(media::Image image, const std::string& where) const;
  // An example to be timed: the largest image, a second of sound.
  virtual Decoded noise(Random& random) const = 0;
  // Throws Error(input), with `where`, for a sound that is shorter than a frame, or so loud that its spectrum is not
  // finite.
  virtual Features features(const Decoded& decoded, const std::string& where) const = 0;
  // Tables of learned positions: the rows of each, and which row of a table stands for a row of features. None: the
  // model's own positions tell the order.
  virtual std::vector<int64_t> tables() const { return {}; }
  virtual int64_t place(size_t /*table*/, int64_t /*row*/, const Features& /*features*/) const { return 0; }
  // Null: the projection is all.
  virtual std::unique_ptr<EncoderBody> body(const BlockBlueprint& /*blueprint*/) const { return nullptr; }
};

// By a name such as "patches:4x4" or "mel:40:8000:25/10:2"; what it leaves out is the usual. Throws Error(usage) saying
// what is wrong with it.
std::shared_ptr<const EncoderKind> encoder_kind(const std::string& name);
std::vector<std::string> encoder_forms();     // of all kinds, as they are written
std::vector<std::string> encoder_examples();  // for tests of every row
std::vector<LayerBlueprint> encoder_layers(const std::string& name, const BlockBlueprint& blueprint);  // its body's
std::string encoder_help(const Medium& medium);  // "Take images, …", and how the kinds for it are written

class MediaEncoder {
 public:
  MediaEncoder(std::shared_ptr<const EncoderKind> kind, const BlockBlueprint& blueprint);

  const EncoderKind& kind() const { return *kind_; }
  // Appends the rows of `parts`, all of them this encoder's: W x + mark + positions, and what a body makes of them,
  // between the delimiters. Throws Error(internal) for features of another width.
  void encode(std::span<const MediaPart* const> parts, const Call& call, std::vector<ops::Placed>& rows) const;
  void visit(const Place& at, Visitor& visitor);

 private:
  std::vector<ops::Lookup> positions(std::span<const MediaPart* const> parts) const;
  Call call_of_body(std::span<const MediaPart* const> parts, const Call& call) const;

  std::shared_ptr<const EncoderKind> kind_;
  Linear projection_;                               // [dim, width]; its bias is the mark of the kind
  std::shared_ptr<Parameter> delimiters_;           // [2, dim]: before and behind a part
  std::vector<std::shared_ptr<Parameter>> tables_;  // [n, dim] each
  std::unique_ptr<EncoderBody> body_;               // null: none
};

}  // namespace hone
