#include "measure/speed.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>

#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"

namespace hone {
namespace {

std::vector<int32_t> random_ids(Random& random, int64_t count, int64_t vocabulary) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& id : ids) id = static_cast<int32_t>(random.below(static_cast<uint64_t>(vocabulary)));
  return ids;
}

// The last row of each sequence.
Tensor last_rows(const Tensor& hidden, int64_t batch, int64_t length) {
  if (batch == 1) return hidden.rows(length - 1, 1);
  const Tensor rows = Tensor::empty({batch, hidden.dim(1)}, hidden.dtype());
  const size_t bytes = hidden.bytes() / static_cast<size_t>(batch * length);
  for (int64_t s = 0; s < batch; ++s)
    std::memcpy(rows.raw() + static_cast<size_t>(s) * bytes,
                hidden.raw() + static_cast<size_t>((s + 1) * length - 1) * bytes, bytes);
  return rows;
}

// Sums over the weights that a token goes through.
struct ProductCounter : Visitor {
  double elements = 0;       // of linear layers' matrices, without the head
  double head_elements = 0;  // of the head, be it the embedding
  double bytes = 0;          // that a step reads
  bool tied = false;
  double batch = 1;  // tokens of a step

  void weight(const std::string& name, std::shared_ptr<Weight>& weight, Linear* layer) override {
    const double size = static_cast<double>(weight->rows() * weight->cols());
    const double stored = static_cast<double>(weight->stored_bytes());
    const bool head = layer ? name == "head.weight" : tied;
    (head ? head_elements : elements) += layer || tied ? size * active_ : 0;
    bytes += (layer || tied ? stored : stored / static_cast<double>(weight->rows())) * read_;
  }
  void parameter(const std::string& name, Parameter& parameter) override {
    const double size = static_cast<double>(parameter.value.bytes());
    bytes += (name == "position.weight" ? size / static_cast<double>(parameter.value.dim(0)) : size) * read_;
  }
  // Of the experts one token computes with `active`; a batch whose tokens choose at random misses each with probability
  // (1 - active / experts) ^ batch.
  void begin_experts(int64_t experts, int64_t active) override {
    active_ = static_cast<double>(active) / static_cast<double>(experts);
    read_ = 1 - std::pow(1 - active_, batch);
  }
  void end_experts() override { active_ = read_ = 1; }

 private:
  double active_ = 1, read_ = 1;  // parts of what is visited
};

ProductCounter count_products(Transformer& model, int64_t batch = 1) {
  ProductCounter counter;
  counter.batch = static_cast<double>(batch);
  counter.tied = model.config().tied;
  model.visit(counter);
  return counter;
}

// Both products of attention over the pairs of query and key that its pattern shows.
double attention_flops(Transformer& model, int64_t length) {
  double flops = 0;
  for (const Block& block : model.blocks()) {
    const Attention& a = block.attention;
    double pairs = 0;
    for (int64_t position = 0; position < length; ++position)
      pairs += static_cast<double>(a.pattern->visible_keys(position));
    flops += 4 * pairs * static_cast<double>(a.heads * a.head_dim);
  }
  return flops;
}

}  // namespace

double GenerationTimes::decode_seconds() const {
  return std::accumulate(step_seconds.begin(), step_seconds.end(), 0.0);
}

void require_positions(const Config& config, int64_t length, const std::string& where) {
  if (config.block.positions == PositionKind::learned && length > config.context)
    throw usage_error("'{}' has {} learned positions and cannot take {} tokens; give a shorter --prompt or --generate",
                      where, config.context, length);
}

GenerationTimes time_generation(Transformer& model, const GenerationShape& shape, uint64_t seed) {
  const NoTape pause;
  Random random(seed, "speed");
  const int64_t vocabulary = model.config().vocabulary;
  const std::vector<int32_t> prompt = random_ids(random, shape.batch * shape.prompt, vocabulary);
  GenerationTimes times;
  Stopwatch watch;
  Cache cache = model.make_cache(shape.batch, shape.prompt + shape.generate, shape.type);
  Forward call;
  call.batch = shape.batch;
  call.type = shape.type;
  call.cache = &cache;
  call.attention = &times.attention;
  std::vector<int32_t> part;
  for (int64_t begin = 0; begin < shape.prompt; begin += shape.chunk) {
    call.length = std::min(shape.chunk, shape.prompt - begin);
    part.clear();
    for (int64_t s = 0; s < shape.batch; ++s) {
      const int32_t* row = prompt.data() + s * shape.prompt + begin;
      part.insert(part.end(), row, row + call.length);
    }
    const Var hidden = model.hidden(part, call);
    if (begin + call.length == shape.prompt) model.logits(last_rows(hidden.value(), shape.batch, call.length));
  }
  times.prefill_seconds = watch.seconds();
  AttentionMeter steps;
  call.attention = &steps;
  call.length = 1;
  times.step_seconds.reserve(static_cast<size_t>(shape.generate));
  for (int64_t step = 0; step < shape.generate; ++step) {
    const std::vector<int32_t> ids = random_ids(random, shape.batch, vocabulary);
    watch.lap();
    model.logits(model.hidden(ids, call).value());
    times.step_seconds.push_back(watch.lap());
  }
  times.step_attention_seconds = steps.seconds;
  return times;
}

double prefill_flops(Transformer& model, const GenerationShape& shape) {
  const ProductCounter count = count_products(model);
  const double batch = static_cast<double>(shape.batch), tokens = batch * static_cast<double>(shape.prompt);
  return 2 * count.elements * tokens + 2 * count.head_elements * batch + attention_flops(model, shape.prompt) * batch;
}

double training_flops(Transformer& model, int64_t batch, int64_t context) {
  const ProductCounter count = count_products(model);
  const double sequences = static_cast<double>(batch), tokens = sequences * static_cast<double>(context);
  return 3 * (2 * (count.elements + count.head_elements) * tokens + attention_flops(model, context) * sequences);
}

double decode_step_bytes(Transformer& model, const GenerationShape& shape) {
  double cache = 0;
  for (const Block& block : model.blocks()) {
    const Attention& a = block.attention;
    const double position = static_cast<double>(2 * a.kv_heads * a.head_dim) * static_cast<double>(size_of(shape.type));
    for (int64_t step = 0; step < shape.generate; ++step)
      cache += position * static_cast<double>(a.pattern->visible_keys(shape.prompt + step));
  }
  if (shape.generate > 0) cache /= static_cast<double>(shape.generate);
  return count_products(model, shape.batch).bytes + cache * static_cast<double>(shape.batch);
}

std::string weight_forms(Transformer& model) {
  struct Forms : Visitor {
    std::map<std::string, int64_t> elements;
    void weight(const std::string&, std::shared_ptr<Weight>& weight, Linear* layer) override {
      if (layer) elements[fmt::format("{} {}", weight->form(), weight->element())] += weight->rows() * weight->cols();
    }
    void parameter(const std::string&, Parameter&) override {}
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
