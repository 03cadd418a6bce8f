#include "nn/encoders/encoder.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "base/clock.h"
#include "base/error.h"
#include "base/kind_name.h"
#include "base/spelling.h"
#include "nn/encoders/kinds.h"
#include "weights/dense_weight.h"

namespace hone {
namespace {

struct Row {
  const char* form;
  const char* example;
  std::shared_ptr<const EncoderKind> (*make)(const std::string& name);
  const char* help;
};

constexpr Row table[] = {
    {patches_form, "patches:2x3:GREY:8x9", patches_encoder, patches_help},
    {mel_form, "mel:8:8000:25/10:2", mel_encoder, mel_help},
};

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
  for (const Row& row : table)
    if (first_word(name) == first_word(row.form)) return row.make(name);
  throw usage_error("unknown kind of encoder '{}'; known: {}", name, fmt::join(encoder_forms(), ", "));
}

std::vector<std::string> encoder_forms() {
  std::vector<std::string> forms;
  for (const Row& row : table) forms.emplace_back(row.form);
  return forms;
}

std::vector<std::string> encoder_examples() {
  std::vector<std::string> names;
  for (const Row& row : table) names.emplace_back(row.example);
  return names;
}

std::string encoder_help(const Medium& medium) {
  std::string kinds;
  for (const Row& row : table)
    if (&row.make(row.example)->medium() == &medium)
      kinds += fmt::format("{}{}", kinds.empty() ? "" : "; or ", row.help);
  return fmt::format("Take {}, {}", medium.plural, kinds);
}

MediaEncoder::MediaEncoder(std::shared_ptr<const EncoderKind> kind, const BlockBlueprint& blueprint)
    : kind_(std::move(kind)),
      projection_(Linear::make(blueprint.dim, kind_->width(), true)),
      delimiters_(rows_of(2, blueprint.dim)) {
  for (const int64_t rows : kind_->tables()) tables_.push_back(rows_of(rows, blueprint.dim));
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
  rows.push_back(std::move(inside));
  rows.push_back(std::move(around));
}

void MediaEncoder::visit(const Place& at, Visitor& visitor) {
  visitor.weight(at.in("projection").info("weight", Role::encoder), projection_.weight);
  visitor.parameter(at.info("mark", Role::encoder_row), *projection_.bias);
  visitor.parameter(at.info("delimiters", Role::encoder_row), *delimiters_);
  for (size_t t = 0; t < tables_.size(); ++t)
    visitor.parameter(at.in(fmt::format("positions.{}", t)).info("weight", Role::encoder_row), *tables_[t]);
}

}  // namespace hone
