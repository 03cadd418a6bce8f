// The residual stream in other axes: those along which it varies most, of which the last can go (SliceGPT: Ashkboos et
// al., arXiv 2401.15024). Rotations of all layers are the same one, so that no shortcut needs a matrix of its own and
// the result is a model like any other.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "compress/calibration.h"

namespace hone {

// Why the stream of such a model cannot be rotated: "layer 0 has an exit, …"; nothing: it can.
std::optional<std::string> rotation_obstacle(const Config& config);

// A norm of the model, and who reads it.
struct NormPlace {
  NormOf of = NormOf::last;  // mixer, feed_forward or last
  int64_t layer = -1;        // of the last: -1
  bool operator==(const NormPlace&) const = default;
};

// What reads a norm of the whole model read rows y [dim]; in the rotated one they read z [kept]: y ~ matrix z +
// constant.
struct NormReading {
  Tensor matrix;    // f32 [dim, kept]
  Tensor constant;  // f32 [dim]
};

// Windows of text on their way through a model, half a block at a time. It holds the stream of all of them.
class StreamWalk {
 public:
  StreamWalk(const Transformer& model, const CalibrationText& text, DType type);
  size_t parts() const { return parts_.size(); }
  // Of a part, what a norm of the stream as it stands gives: f32 [rows, dim].
  Tensor normed(size_t part, const NormPlace& place, const Norm& norm) const;
  Tensor stream(size_t part) const;  // as it stands: f32 [rows, dim]
  // What it would be behind the half of a block that reads that norm, of which `inputs` sees what enters its layers.
  Tensor stream_behind(size_t part, const NormPlace& place, InputObserver& inputs) const;
  // Lets all parts through that half.
  void pass(const NormPlace& place);

 private:
  struct Part {
    Call call;
    Stream stream;
  };
  Stream behind(const Stream& stream, const NormPlace& place, const Call& call) const;

  const Transformer& model_;
  std::vector<Part> parts_;
};

// All norms of the stream that the model has, in the order in which they run.
std::vector<NormPlace> norms_of_stream(const Transformer& model);
const Norm& norm_at(const Transformer& model, const NormPlace& place);

// By how much of what norms give (before their gains, so that all rows are as long) lies along them, over the text and
// all norms of the stream: f32 [dim, dim], a column an axis, the most first. Eigenvectors of the sum of Gram matrices.
Tensor stream_axes(const Transformer& model, const CalibrationText& text, DType type,
                   const std::function<void(int64_t done, int64_t all)>& progress = {});

Tensor first_columns(const Tensor& matrix, int64_t count);

// The model with its stream along so many axes. What writes into the stream is rotated, gains and biases of norms go
// into what reads them, and a norm that takes the mean out becomes one that does not, since what writes has none then.
// A tied head becomes one of its own: it takes the last norm's gain. With all axes the logits stay what they were.
//
// With k of dim axes, rows of the stream are sqrt(k / dim) times their axes, so that the mean square over k numbers is
// what it was over dim and the epsilon of norms weighs what it did; gains are the inverse.
class RotatedModel {
 public:
  RotatedModel(const Transformer& whole, const Tensor& axes);  // f32 [dim, kept]

  Transformer& model() { return *model_; }
  std::unique_ptr<Transformer> take() { return std::move(model_); }
  // Rows of the whole stream [dim] times it are rows of the new one: f32 [dim, kept].
  const Tensor& writing() const { return writing_; }
  // What the rotated model's norms give before a bias.
  const Norm& plain_norm() const { return plain_; }
  // How a norm of the whole model would be read if nothing had gone: what the constructor gives to all.
  NormReading reading(const NormPlace& place) const;
  // What reads the norm there, from now on by this.
  void read(const NormPlace& place, const NormReading& reading);

 private:
  const Transformer& whole_;
  Tensor axes_, writing_;
  std::map<std::string, const Weight*> weights_;  // of the whole model
  std::map<std::string, const Parameter*> parameters_;
  std::unique_ptr<Transformer> model_;
  Norm plain_;
};

}  // namespace hone
