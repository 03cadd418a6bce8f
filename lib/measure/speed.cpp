#include "measure/speed.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "model/session.h"

namespace hone {
namespace {

std::vector<int32_t> random_ids(Random& random, int64_t count, int64_t vocabulary) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& id : ids) id = static_cast<int32_t>(random.below(static_cast<uint64_t>(vocabulary)));
  return ids;
}

// Sums over the weights that a token goes through: of a layer with a router of depth the fraction of the tokens that
// do.
struct ProductCounter : Reader {
  explicit ProductCounter(const Config& of) : config(of), tied(of.tied) {}
  const Config& config;
  double elements = 0;       // of linear layers' matrices, without the head
  double head_elements = 0;  // of the head, be it the embedding
  double bytes = 0;          // that a step reads
  bool tied;
  double batch = 1;  // tokens of a step

  void weight(const ParameterInfo& info, const Weight& weight) override {
    if (info.role == Role::encoder || info.kind > 0) return;  // no token of text goes through it
    if (!info.part.here()) return;                            // of an expert that another rank has
    const double size = static_cast<double>(weight.rows() * weight.cols());
    const double stored = static_cast<double>(weight.stored_bytes());
    const bool looked_up_in = info.role == Role::embedding && !tied;
    const bool head = info.role == Role::head || info.role == Role::embedding;
    if (!looked_up_in) (head ? head_elements : elements) += size * active_ * passing(info.layer);
    bytes += (looked_up_in ? stored / static_cast<double>(weight.rows()) : stored) * read_ * any_passes(info.layer);
  }
  void parameter(const ParameterInfo& info, const Parameter& parameter) override {
    if (info.role == Role::encoder_row || info.of == Role::encoder || info.kind > 0 || !info.part.here()) return;
    const double size = static_cast<double>(parameter.value.bytes());
    const bool looked_up_in = info.role == Role::position;
    if (info.role == Role::depth_router) elements += static_cast<double>(parameter.value.size());
    bytes += (looked_up_in ? size / static_cast<double>(parameter.value.dim(0)) : size) * read_;
  }
  // Of the experts one token computes with `active`; a batch whose tokens choose at random misses each with probability
  // (1 - active / experts) ^ batch.
  void begin_experts(int64_t experts, int64_t active) override {
    active_ = static_cast<double>(active) / static_cast<double>(experts);
    read_ = 1 - std::pow(1 - active_, batch);
  }
  void end_experts() override { active_ = read_ = 1; }

 private:
  double passing(int64_t layer) const {
    return layer < 0 ? 1 : passing_fraction(config.layers[static_cast<size_t>(layer)]);
  }
  // That any token of the batch goes through the layer, if they go independently.
  double any_passes(int64_t layer) const { return 1 - std::pow(1 - passing(layer), batch); }

  double active_ = 1, read_ = 1;  // parts of what is visited
};

ProductCounter count_products(const Transformer& model, int64_t batch = 1) {
  ProductCounter counter(model.config());
  counter.batch = static_cast<double>(batch);
  model.visit(counter);
  return counter;
}

// Of a layer's tokens, those of the first `length` that go through it.
int64_t passed(int64_t length, const LayerBlueprint& layer) {
  return std::llround(static_cast<double>(length) * passing_fraction(layer));
}

double mixing_flops(const Transformer& model, int64_t length) {
  double flops = 0;
  for (size_t i = 0; i < model.blocks().size(); ++i) {
    const Block& block = model.blocks()[i];
    const auto passing = passed(length, model.config().layers[i]);
    for (int64_t position = 0; block.mixer && position < passing; ++position) flops += block.mixer->flops(position);
  }
  return flops;
}

}  // namespace

double GenerationTimes::decode_seconds() const {
  return std::accumulate(step_seconds.begin(), step_seconds.end(), 0.0);
}

void require_positions(const Config& config, int64_t length, const std::string& where) {
  if (length > max_positions(config))
    throw usage_error(
        "'{}' has {} learned positions and cannot take {} tokens; ask for a shorter prompt or fewer tokens after it",
        where, config.context, length);
}

GenerationTimes time_generation(const Transformer& model, const GenerationShape& shape, uint64_t seed) {
  Random random(seed, "speed");
  const int64_t vocabulary = model.config().vocabulary;
  const std::vector<int32_t> prompt = random_ids(random, shape.batch * shape.prompt, vocabulary);
  GenerationTimes times;
  Stopwatch watch;
  Session session(
      model,
      {.sequences = shape.batch, .capacity = shape.prompt + shape.generate, .type = shape.type, .code = shape.code});
  session.trace.attention = &times.attention;
  session.trace.depth = &times.depth;
  session.feed(std::span<const int32_t>(prompt), shape.chunk);
  times.prefill_seconds = watch.seconds();
  AttentionMeter steps;
  session.trace.attention = &steps;
  times.step_seconds.reserve(static_cast<size_t>(shape.generate));
  for (int64_t step = 0; step < shape.generate; ++step) {
    const std::vector<int32_t> ids = random_ids(random, shape.batch, vocabulary);
    watch.lap();
    session.feed(std::span<const int32_t>(ids));
    times.step_seconds.push_back(watch.lap());
  }
  times.step_attention_seconds = steps.seconds;
  return times;
}

double prefill_flops(const Transformer& model, const GenerationShape& shape) {
  const ProductCounter count = count_products(model);
  const double batch = static_cast<double>(shape.batch), tokens = batch * static_cast<double>(shape.prompt);
  return 2 * count.elements * tokens + 2 * count.head_elements * batch + mixing_flops(model, shape.prompt) * batch;
}

double decode_flops(const Transformer& model, const GenerationShape& shape) {
  const ProductCounter count = count_products(model);
  double mixing = 0;
  for (size_t i = 0; i < model.blocks().size(); ++i) {
    const Block& block = model.blocks()[i];
    const LayerBlueprint& layer = model.config().layers[i];
    for (int64_t step = 0; block.mixer && step < shape.generate; ++step)
      mixing += passing_fraction(layer) * block.mixer->flops(passed(shape.prompt + step, layer));
  }
  return 2 * (count.elements + count.head_elements) +
         mixing / static_cast<double>(std::max<int64_t>(shape.generate, 1));
}

double training_flops(const Transformer& model, int64_t batch, int64_t context) {
  const ProductCounter count = count_products(model);
  const double sequences = static_cast<double>(batch), tokens = sequences * static_cast<double>(context);
  return 3 * (2 * (count.elements + count.head_elements) * tokens + mixing_flops(model, context) * sequences);
}

double decode_step_bytes(const Transformer& model, const GenerationShape& shape) {
  double state = 0;
  for (size_t i = 0; i < model.blocks().size(); ++i) {
    const Block& block = model.blocks()[i];
    const LayerBlueprint& layer = model.config().layers[i];
    for (int64_t step = 0; step < shape.generate; ++step)
      if (block.mixer)
        state += passing_fraction(layer) *
                 block.mixer->state_bytes_read(passed(shape.prompt + step, layer), shape.type, shape.code);
  }
  if (shape.generate > 0) state /= static_cast<double>(shape.generate);
  return count_products(model, shape.batch).bytes + state * static_cast<double>(shape.batch);
}

std::string weight_forms(const Transformer& model) {
  struct Forms : Reader {
    std::map<std::string, int64_t> elements;
    void weight(const ParameterInfo& info, const Weight& weight) override {
      if (!is_linear(info.role) || !info.part.here()) return;
      elements[fmt::format("{} {}{}", weight.form(), weight.element(),
                           weight.activation_bits() == 8 ? eight_bits_mark : std::string_view())] +=
          weight.rows() * weight.cols();
    }
    void parameter(const ParameterInfo&, const Parameter&) override {}
  } forms;
  model.visit(forms);
  std::vector<std::pair<int64_t, std::string>> order;
  for (const auto& [name, elements] : forms.elements) order.emplace_back(-elements, name);
  std::sort(order.begin(), order.end());
  std::string text;
  for (const auto& [elements, name] : order) text += (text.empty() ? "" : " + ") + name;
  return text;
}

}  // namespace hone
