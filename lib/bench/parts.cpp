// Images and sounds before a text: what their encoders take, and when the first token is there.
#include <algorithm>

#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "bench/models.h"
#include "measure/speed.h"
#include "nn/encoders/encoder.h"

namespace hone {

const EncoderKind& encoder_for(const Model& model, const std::string& medium) {
  const auto& encoders = model.transformer->encoders();
  const size_t encoder = model.transformer->encoder_of(medium);
  if (encoder == encoders.size())
    throw usage_error("'{}' has no encoder for {}; leave that part out", model.path, medium);
  return encoders[encoder]->kind();
}

namespace {

class Parts : public PointMeasurement {
 public:
  Parts(Model& model, const BenchPoint& point, const BenchSettings& settings)
      : model_(*model.transformer), s_(settings), point_(point) {
    for (const std::string& name : s_.parts) {
      const EncoderKind& encoder = encoder_for(model, name);
      encoders_.push_back(model_.encoder_of(name));
      Random random(s_.seed, "parts:" + name);
      decoded_.push_back(encoder.noise(random));
      result_.parts.push_back({name, encoder.name()});
    }
    result_.prompt = point.length;
    result_.rows = point.length;
    for (size_t p = 0; p < encoders_.size(); ++p) {
      result_.parts[p].rows = kind(encoders_[p]).features(decoded_[p], "noise").rows() + 2;
      result_.rows += result_.parts[p].rows;
    }
    require_positions(model_.config(), result_.rows, model.path);
  }

  void repeat(uint64_t seed, bool record) override {
    Random random(seed, "parts");
    std::vector<int32_t> text(static_cast<size_t>(point_.length));
    for (int32_t& id : text) id = static_cast<int32_t>(random.below(static_cast<uint64_t>(model_.config().vocabulary)));
    Stopwatch watch;
    // Of each sequence the same, made anew each time, as if they differed.
    std::vector<Made> sequences;
    std::vector<double> features(encoders_.size());
    for (int64_t b = 0; b < point_.batch; ++b) sequences.push_back(made(text, features));
    std::vector<Session::Piece> pieces;
    for (const Made& made : sequences)
      pieces.push_back({static_cast<int64_t>(pieces.size()), Input(made.ids, made.parts)});
    Session session(model_, {.sequences = point_.batch, .capacity = result_.rows, .type = s_.type, .code = s_.code});
    std::vector<EncoderLoad> loads(model_.encoders().size());
    session.trace.encoders = &loads;
    session.feed(pieces, s_.prefill_chunk);
    const double seconds = watch.seconds();
    if (!record) return;
    result_.first_token_ms.push_back(1e3 * seconds);
    result_.prefill.push_back(static_cast<double>(point_.batch * result_.rows) / seconds);
    for (size_t p = 0; p < encoders_.size(); ++p) {
      result_.parts[p].features_ms.push_back(1e3 * features[p]);
      result_.parts[p].encoder_ms.push_back(1e3 * loads[encoders_[p]].seconds);
    }
  }

  Measured result(const kernels::Ceilings&) const override { return result_; }

 private:
  struct Made {
    std::vector<int32_t> ids;
    std::vector<MediaPart> parts;
  };

  const EncoderKind& kind(size_t encoder) const { return model_.encoders()[encoder]->kind(); }

  // What is decoded as rows, then the text; adds the time of each part's features to `seconds`.
  Made made(const std::vector<int32_t>& text, std::vector<double>& seconds) const {
    Made made;
    for (size_t p = 0; p < encoders_.size(); ++p) {
      const Stopwatch watch;
      made.parts.push_back(
          {encoders_[p], static_cast<int64_t>(made.ids.size()), kind(encoders_[p]).features(decoded_[p], "noise")});
      seconds[p] += watch.seconds();
      made.ids.resize(made.ids.size() + static_cast<size_t>(made.parts.back().rows()));
    }
    made.ids.insert(made.ids.end(), text.begin(), text.end());
    return made;
  }

  const Transformer& model_;
  const BenchSettings& s_;
  BenchPoint point_;
  std::vector<size_t> encoders_;
  std::vector<Decoded> decoded_;
  PartsResult result_;
};

}  // namespace

std::unique_ptr<PointMeasurement> measure_parts(Model& model, const BenchPoint& point, const BenchSettings& settings) {
  return std::make_unique<Parts>(model, point, settings);
}

}  // namespace hone
