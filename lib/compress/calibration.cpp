#include "compress/calibration.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "base/error.h"
#include "base/stop.h"
#include "kernels/rows/elementwise.h"

namespace hone {
namespace {

// Rows that go through a block together.
constexpr int64_t rows_at_once = 2048;

class Accumulator : public InputObserver {
 public:
  explicit Accumulator(ColumnMoments& into) : into_(into) {}
  void observe(kernels::ConstView x) override {
    into_.squares.resize(static_cast<size_t>(x.cols), 0.0f);
    kernels::add_column_squares(x, into_.squares.data());
    into_.tokens += x.rows;
  }

 private:
  ColumnMoments& into_;
};

// Puts an observer into every linear layer it visits, and takes them out again when destroyed.
class Observers : public Visitor {
 public:
  explicit Observers(Moments& into) : into_(into) {}
  ~Observers() override {
    for (Linear* layer : layers_) layer->observer = nullptr;
  }
  void weight(const std::string& name, std::shared_ptr<Weight>&, Linear* layer) override {
    if (!layer) return;
    into_[name].expert = expert_;
    observers_.push_back(std::make_unique<Accumulator>(into_[name]));
    layer->observer = observers_.back().get();
    layers_.push_back(layer);
  }
  void parameter(const std::string&, Parameter&) override {}
  void begin_experts(int64_t, int64_t) override { expert_ = true; }
  void end_experts() override { expert_ = false; }

 private:
  Moments& into_;
  bool expert_ = false;
  std::vector<std::unique_ptr<Accumulator>> observers_;
  std::vector<Linear*> layers_;
};

struct Names : Visitor {
  std::vector<std::string> all;
  void weight(const std::string& name, std::shared_ptr<Weight>&, Linear* layer) override {
    if (layer) all.push_back(name);
  }
  void parameter(const std::string&, Parameter&) override {}
};

// Some windows on their way through the model.
struct Part {
  Forward call;
  Stream stream;
};

std::vector<Part> embed(Transformer& model, const CalibrationText& text, DType type) {
  std::vector<Part> parts;
  const int64_t most = std::max<int64_t>(1, rows_at_once / text.length);
  for (int64_t first = 0; first < text.windows; first += most) {
    Part part;
    part.call.batch = std::min(most, text.windows - first);
    part.call.length = text.length;
    part.call.type = type;
    const auto ids = std::span(text.ids).subspan(static_cast<size_t>(first * text.length),
                                                 static_cast<size_t>(part.call.batch * text.length));
    part.stream = model.embed(ids, part.call);
    parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace

std::vector<float> ColumnMoments::norms() const {
  std::vector<float> result(squares);
  for (float& x : result) x = std::sqrt(x);
  return result;
}

std::vector<float> ColumnMoments::means() const {
  std::vector<float> result(squares);
  for (float& x : result) x /= static_cast<float>(std::max<int64_t>(tokens, 1));
  return result;
}

CalibrationText calibration_text(const Corpus& text, int64_t windows, int64_t length) {
  const int64_t available = text.size() / length;
  if (available < 1)
    throw input_error(
        "'{}' has {} tokens, less than one calibration window of {}; give more text or a smaller --calibration-context",
        text.name(), text.size(), length);
  CalibrationText result{std::min(windows, available), length, {}};
  result.ids.resize(static_cast<size_t>(result.windows * length));
  for (int64_t w = 0; w < result.windows; ++w)
    text.copy(w * available / result.windows * length, length, result.ids.data() + w * length);
  return result;
}

void calibrate(Transformer& model, const CalibrationText* text, DType type,
               const std::function<void(const std::vector<std::string>&, const Moments&)>& change,
               const std::function<void(int64_t, int64_t)>& progress) {
  const NoTape pause;
  std::vector<Part> parts;
  if (text) {
    for (int32_t id : text->ids)
      if (id < 0 || id >= model.config().vocabulary)
        throw input_error("the calibration text has token {}, outside the model's vocabulary of {}", id,
                          model.config().vocabulary);
    parts = embed(model, *text, type);
  }
  const int64_t all = static_cast<int64_t>(model.blocks().size()) + 1;
  for (size_t i = 0; i < model.blocks().size(); ++i) {
    Block& block = model.blocks()[i];
    const std::string prefix = fmt::format("blocks.{}", i);
    Moments moments;
    if (text) {
      Observers observers(moments);
      block.visit(prefix, observers);
      for (Part& part : parts) {
        check_stop();
        part.call.layer = static_cast<int64_t>(i);
        block.forward(part.stream, part.call, nullptr);
      }
    }
    Names names;
    block.visit(prefix, names);
    change(names.all, moments);
    for (Part& part : parts) {
      check_stop();
      part.stream = block.forward(part.stream, part.call, nullptr);
    }
    if (progress) progress(static_cast<int64_t>(i) + 1, all);
  }
  Moments moments;
  const std::string head = model.config().tied ? "embedding.weight" : "head.weight";
  for (Part& part : parts) Accumulator(moments[head]).observe(model.finish(part.stream, part.call).value().view());
  change({head}, moments);
  if (progress) progress(all, all);
}

}  // namespace hone
