// Text that is written with drafts, or with tokens that end early, and without.
#include <algorithm>

#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "base/spelling.h"
#include "bench/models.h"
#include "dataset/text_file.h"
#include "model/exit_calibration.h"
#include "report/statistics.h"
#include "serve/engine.h"
#include "serve/generate.h"

namespace hone {
namespace {

class Writing : public PointMeasurement {
 public:
  Writing(Model& model, const BenchPoint& point, const BenchSettings& settings, const WritingVariant& variant)
      : model_(*model.transformer), point_(point), s_(settings), tokenizer_(make_tokenizer(model.tokenizer)) {
    const Config& config = model_.config();
    if (point.length + s_.generate - 1 > max_positions(config))
      throw usage_error("'{}' has {} learned positions: a prompt of {} and {} more tokens do not fit", model.path,
                        config.context, point.length, s_.generate);
    tokens_ = tokenizer_->encode(text_of_bytes(read_text_file(s_.data), s_.data));
    if (static_cast<int64_t>(tokens_.size()) < point.length)
      throw input_error("'{}' has {}, a prompt {}", s_.data, counted(tokens_.size(), "token"), point.length);
    settings_.tokens = s_.generate;
    settings_.sampling.temperature = 0;
    settings_.ignore_end = true;
    settings_.type = s_.type;
    settings_.prefill_chunk = s_.prefill_chunk;
    settings_.code = s_.code;
    result_.prompt = point.length;
    result_.generate = s_.generate;
    if (!s_.drafts.empty()) result_.draft = variant.draft;
    if (!s_.exits.empty()) result_.exit = variant.exit;
    if (variant.exit != "none") {
      settings_.exits.rule = exit_rule_of(variant.exit, model.lineage, model.path);
      settings_.exits.filling = s_.filling;
      check(settings_.exits, config);
    }
    if (variant.draft == "none") return;
    draft_ = open_draft(variant.draft, model, s_.draft_tokens, s_.draft_min_probability);
    if (point.batch == 1) settings_.draft = draft_.settings;
  }

  // Everyone gets the prompts of the seed.
  void repeat(uint64_t seed, bool record) override {
    Random places(seed, "prompt");
    if (point_.batch > 1) return write_together(places, record);
    const std::span<const int32_t> prompt = piece(places);
    const Generated text = generate(model_, *tokenizer_, prompt, settings_, Random(seed, "sampling"));
    if (!record) return;
    // The first token belongs to the prompt.
    result_.decode.push_back(static_cast<double>(text.tokens.size() - 1) / text.decode_seconds);
    result_.steps += text.steps;
    result_.drafted += text.drafted;
    result_.verified += text.verified;
    result_.accepted += text.accepted;
    add(result_.depth, text.depth);
    for (const int64_t depth : text.depths) layers_ += depth;
    result_.tokens += static_cast<int64_t>(text.depths.size());
    if (!result_.exit.empty()) add_loss(prompt, text.tokens);
  }

  Measured result(const kernels::Ceilings&) const override {
    WritingResult result = result_;
    if (result.tokens > 0) result.mean_depth = static_cast<double>(layers_) / static_cast<double>(result.tokens);
    if (scored_ > 0) result.text_loss = loss_ / static_cast<double>(scored_);
    return result;
  }

 private:
  std::span<const int32_t> piece(Random& places) const {
    const auto length = static_cast<size_t>(point_.length);
    return std::span(tokens_).subspan(static_cast<size_t>(places.below(tokens_.size() - length + 1)), length);
  }

  // Several texts, a token of each a step. None is drafted: the rows that drafts would add are taken by the other texts.
  void write_together(Random& places, bool record) {
    std::vector<std::vector<int32_t>> texts;
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < point_.batch; ++i) {
      const std::span<const int32_t> prompt = piece(places);
      texts.emplace_back(prompt.begin(), prompt.end());
      ids.insert(ids.end(), prompt.begin(), prompt.end());
    }
    Session session(
        model_,
        {.sequences = point_.batch, .capacity = point_.length + s_.generate - 1, .type = s_.type, .code = s_.code});
    session.trace.depth = record ? &result_.depth : nullptr;
    Sampler sampler(settings_.sampling, Random(1, "sampling"));  // greedy: nothing is drawn
    const auto choose = [&](const Tensor& logits) {
      ids.clear();
      for (size_t i = 0; i < texts.size(); ++i) {
        const Tensor row = logits.rows(static_cast<int64_t>(i), 1);
        ids.push_back(sampler.next(row.span<float>(), texts[i], tokenizer_->separator()));
        texts[i].push_back(ids.back());
      }
    };
    choose(session.feed(std::span<const int32_t>(ids), s_.prefill_chunk));
    Stopwatch watch;
    for (int64_t step = 1; step < s_.generate; ++step) choose(session.feed(std::span<const int32_t>(ids)));
    if (!record) return;
    result_.decode.push_back(static_cast<double>(point_.batch * (s_.generate - 1)) / watch.seconds());
    result_.steps += s_.generate - 1;
  }

  // What all layers say of a text, however deep its own tokens went.
  void add_loss(std::span<const int32_t> prompt, std::span<const int32_t> text) {
    std::vector<int32_t> ids(prompt.begin(), prompt.end());
    ids.insert(ids.end(), text.begin(), text.end());
    const NoTape pause;
    Session session(model_, {.capacity = static_cast<int64_t>(ids.size()), .type = s_.type, .code = s_.code});
    const Tensor hidden = session.hidden(std::span(ids).first(ids.size() - 1), s_.prefill_chunk);
    constexpr int64_t rows_at_once = 64;  // of logits
    const auto first = static_cast<int64_t>(prompt.size()) - 1, count = static_cast<int64_t>(text.size());
    for (int64_t begin = 0; begin < count; begin += rows_at_once) {
      const int64_t rows = std::min(rows_at_once, count - begin);
      const Tensor logits = model_.logits(hidden.rows(first + begin, rows));
      for (int64_t i = 0; i < rows; ++i)
        loss_ -= score(logits.rows(i, 1).span<float>(), text[static_cast<size_t>(begin + i)], 0).logprob;
    }
    scored_ += count;
  }

  const Transformer& model_;
  BenchPoint point_;
  const BenchSettings& s_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::vector<int32_t> tokens_;
  GenerateSettings settings_;
  OpenDraft draft_;
  WritingResult result_;
  int64_t layers_ = 0;  // that all tokens went through
  double loss_ = 0;     // of so many tokens
  int64_t scored_ = 0;
};

}  // namespace

std::unique_ptr<PointMeasurement> measure_writing(Model& model, const BenchPoint& point, const BenchSettings& settings,
                                                  const WritingVariant& variant) {
  return std::make_unique<Writing>(model, point, settings, variant);
}

}  // namespace hone
