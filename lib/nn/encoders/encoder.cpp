#include "nn/encoders/encoder.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "base/clock.h"
#include "base/error.h"
#include "base/rows.h"
#include "base/spelling.h"
#include "nn/encoders/kinds.h"
#include "weights/dense_weight.h"

namespace hone {

// Each in a file of its own.
EncoderRow patches_encoder();
EncoderRow vit_encoder();
EncoderRow mel_encoder();

namespace {

std::span<const EncoderRow> encoder_table() {
  static const EncoderRow rows[] = {patches_encoder(), vit_encoder(), mel_encoder()};
  return rows;
}

std::shared_ptr<Parameter> rows_of(int64_t rows, int64_t dim) {
  auto parameter = std::make_shared<Parameter>();
  parameter->value = Tensor::promised({rows, dim});
  return parameter;
}

}  // namespace

Decoded EncoderKind::adopted(media::Image, const std::string& where) const {
  throw input_error("{} is an image, which '{}' takes none of", where, name());
}

std::vector<std::string> words_of(const std::string& name, const std::string& form) {
  const auto split = [](const std::string& text) {
    std::vector<std::string> words;
    for (size_t colon = text.find(':'); colon != text.npos; colon = text.find(':', colon + 1))
      words.push_back(text.substr(colon + 1, text.find(':', colon + 1) - colon - 1));
    return words;
  };
  std::vector<std::string> words = split(name);
  const size_t most = split(form).size(), least = split(form.substr(0, form.find('['))).size();
  if (words.size() < least || words.size() > most)
    throw usage_error("encoder '{}' has {} behind its name; write {}", name, counted(words.size(), "word"), form);
  return words;
}

std::vector<int64_t> numbers_in(const std::string& word, char mark, size_t count, int64_t least, int64_t most,
                                const std::string& name, const std::string& form) {
  std::vector<int64_t> numbers;
  const char* at = word.data();
  const char* const end = at + word.size();
  while (true) {
    int64_t number = 0;
    const auto [stop, error] = std::from_chars(at, end, number);
    if (error != std::errc() || stop == at || number < least || number > most) break;
    numbers.push_back(number);
    if (stop == end && numbers.size() == count) return numbers;
    if (stop == end || *stop != mark) break;
    at = stop + 1;
  }
  throw usage_error("encoder '{}': '{}' is not {} from {} to {}; write {}", name, word, counted(count, "whole number"),
                    least, most, form);
}

std::shared_ptr<const EncoderKind> encoder_kind(const std::string& name) {
  return form_called(encoder_table(), name, "kind of encoder").make(name);
}

std::vector<std::string> encoder_forms() {
  return forms_of_rows(encoder_table());
}

std::vector<std::string> encoder_examples() {
  std::vector<std::string> names;
  for (const EncoderRow& row : encoder_table()) names.emplace_back(row.example);
  return names;
}

std::vector<LayerBlueprint> encoder_layers(const std::string& name, const BlockBlueprint& blueprint) {
  const ShapesOnly shapes;
  const std::unique_ptr<EncoderBody> body = encoder_kind(name)->body(blueprint);
  return body ? body->layers() : std::vector<LayerBlueprint>();
}

std::string encoder_help(const Medium& medium) {
  std::string kinds;
  for (const EncoderRow& row : encoder_table())
    if (&row.make(row.example)->medium() == &medium)
      kinds += fmt::format("{}{}", kinds.empty() ? "" : "; or ", row.help);
  return fmt::format("Take {}, {}", medium.plural, kinds);
}

MediaEncoder::MediaEncoder(std::shared_ptr<const EncoderKind> kind, const BlockBlueprint& blueprint)
    : kind_(std::move(kind)),
      projection_(Linear::make(blueprint.dim, kind_->width(), true)),
      delimiters_(rows_of(2, blueprint.dim)) {
  for (const int64_t rows : kind_->tables()) tables_.push_back(rows_of(rows, blueprint.dim));
  body_ = kind_->body(blueprint);
}

std::vector<ops::Lookup> MediaEncoder::positions(std::span<const MediaPart* const> parts) const {
  std::vector<ops::Lookup> plus;
  for (size_t t = 0; t < tables_.size(); ++t) {
    plus.push_back({tables_[t].get(), {}});
    for (const MediaPart* part : parts)
      for (int64_t r = 0; r < part->features.rows(); ++r) {
        const int64_t place = kind_->place(t, r, part->features);
        if (place < 0 || place >= tables_[t]->value.dim(0))
          throw internal_error("row {} of '{}' stands at {} of {}", r, kind_->name(), place, tables_[t]->value.dim(0));
        plus.back().rows.push_back(static_cast<int32_t>(place));
      }
  }
  return plus;
}

// Dropout draws other numbers than in the model's layers, and each encoder others.
Call MediaEncoder::call_of_body(std::span<const MediaPart* const> parts, const Call& call) const {
  std::vector<Span> spans;
  for (const MediaPart* part : parts) {
    const int64_t rows = part->features.rows();
    spans.push_back({.sequence = static_cast<int64_t>(spans.size()), .count = rows, .together = {{0, rows}}});
  }
  Call own;
  own.batch = Batch(std::move(spans));
  own.type = call.type;
  own.noise = {mix64(call.noise.seed ^ mix64(0x656e636f64657273u + parts[0]->encoder)), call.noise.dropout};
  return own;
}

void MediaEncoder::encode(std::span<const MediaPart* const> parts, const Call& call,
                          std::vector<ops::Placed>& rows) const {
  EncoderLoad* const load =
      call.trace.encoders ? &(*call.trace.encoders)[static_cast<size_t>(parts[0]->encoder)] : nullptr;
  const SecondsInto watch(load ? &load->seconds : nullptr);
  int64_t count = 0;
  ops::Placed inside, around;
  around.plus.push_back({delimiters_.get(), {}});
  for (const MediaPart* part : parts) {
    if (part->features.width != kind_->width())
      throw internal_error("features of {} numbers for '{}'", part->features.width, kind_->name());
    count += part->features.rows();
    const auto first = static_cast<int32_t>(part->row), last = static_cast<int32_t>(part->row + part->rows() - 1);
    for (int32_t row = first + 1; row < last; ++row) inside.at.push_back(row);
    around.at.insert(around.at.end(), {first, last});
    around.plus[0].rows.insert(around.plus[0].rows.end(), {0, 1});
  }
  if (load) {
    ++load->calls;
    load->parts += static_cast<int64_t>(parts.size());
    load->rows += count + 2 * static_cast<int64_t>(parts.size());
  }
  const Tensor all = Tensor::empty({count, kind_->width()});
  float* to = all.data<float>();
  for (const MediaPart* part : parts) to = std::copy(part->features.values.begin(), part->features.values.end(), to);
  inside.rows = projection_.forward(Var(all.to(call.type)), call);
  inside.plus = positions(parts);
  if (body_) {
    std::vector<int32_t> every(static_cast<size_t>(count));
    std::iota(every.begin(), every.end(), 0);
    const Var positioned = ops::place(count, delimiters_->value.dim(1), {{inside.rows, every, std::move(inside.plus)}});
    inside.rows = body_->forward(positioned, call_of_body(parts, call));
    inside.plus.clear();
  }
  rows.push_back(std::move(inside));
  rows.push_back(std::move(around));
}

namespace {

// No layer of the model, whatever it is in the body: who walks those lets it be.
class OfEncoder : public Visitor {
 public:
  explicit OfEncoder(Visitor& to) : to_(to) {}
  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    ParameterInfo own = info;
    own.role = own.of = Role::encoder;
    to_.weight(own, weight);
  }
  void parameter(const ParameterInfo& info, Parameter& parameter) override {
    ParameterInfo own = info;
    own.of = Role::encoder;
    to_.parameter(own, parameter);
  }

 private:
  Visitor& to_;
};

}  // namespace

void MediaEncoder::visit(const Place& at, Visitor& visitor) {
  visitor.weight(at.in("projection").info("weight", Role::encoder), projection_.weight);
  visitor.parameter(at.info("mark", Role::encoder_row), *projection_.bias);
  visitor.parameter(at.info("delimiters", Role::encoder_row), *delimiters_);
  for (size_t t = 0; t < tables_.size(); ++t)
    visitor.parameter(at.in(fmt::format("positions.{}", t)).info("weight", Role::encoder_row), *tables_[t]);
  if (!body_) return;
  OfEncoder own(visitor);
  body_->visit(at, own);
}

}  // namespace hone
