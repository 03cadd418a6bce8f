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

void add_rows(ColumnMoments& to, kernels::ConstView x) {
  to.squares.resize(static_cast<size_t>(x.cols), 0.0f);
  kernels::add_column_squares(x, to.squares.data());
  to.tokens += x.rows;
}

// Moments of the linear layers that it visits, under their names.
class Observer : public Visitor, public InputObserver {
 public:
  explicit Observer(Moments& into) : into_(into) {}
  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    if (!is_linear(info.role)) return;
    into_[info.name].expert = info.expert >= 0;
    of_[weight.get()] = &into_[info.name];
  }
  void parameter(const ParameterInfo&, Parameter&) override {}
  void observe(const Weight& weight, kernels::ConstView x) override {
    if (const auto found = of_.find(&weight); found != of_.end()) add_rows(*found->second, x);
  }

 private:
  Moments& into_;
  std::map<const Weight*, ColumnMoments*> of_;
};

struct Names : Visitor {
  std::vector<std::string> all;
  void weight(const ParameterInfo& info, std::shared_ptr<Weight>&) override {
    if (is_linear(info.role)) all.push_back(info.name);
  }
  void parameter(const ParameterInfo&, Parameter&) override {}
};

// Some windows on their way through the model.
struct Part {
  Call call;
  Stream stream;
};

std::vector<Part> embed(const Transformer& model, const CalibrationText& text, DType type) {
  std::vector<Part> parts;
  const int64_t most = std::max<int64_t>(1, rows_at_once / text.length);
  for (int64_t first = 0; first < text.windows; first += most) {
    const int64_t count = std::min(most, text.windows - first);
    Part part{model.call(Batch::whole(count, text.length), type), {}};
    const auto ids = std::span(text.ids).subspan(static_cast<size_t>(first * text.length),
                                                 static_cast<size_t>(count * text.length));
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
  for (int64_t i = 0; i + 1 < all; ++i) {
    Block& block = model.blocks()[static_cast<size_t>(i)];
    Moments moments;
    if (text) {
      Observer observer(moments);
      block.visit(Transformer::place_of_block(i), observer);
      for (Part& part : parts) {
        check_stop();
        Call call = part.call;
        call.trace.inputs = &observer;
        block.forward(part.stream, call, i, nullptr);
      }
    }
    Names names;
    block.visit(Transformer::place_of_block(i), names);
    change(names.all, moments);
    for (Part& part : parts) {
      check_stop();
      part.stream = block.forward(part.stream, part.call, i, nullptr);
    }
    if (progress) progress(i + 1, all);
  }
  Moments moments;
  const std::string head = model.config().tied ? "embedding.weight" : "head.weight";
  for (Part& part : parts) add_rows(moments[head], model.finish(part.stream, part.call).value().view());
  change({head}, moments);
  if (progress) progress(all, all);
}

}  // namespace hone
