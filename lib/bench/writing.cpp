// Text that is written with drafts, or with tokens that end early, and without.
#include "base/error.h"
#include "base/random.h"
#include "base/spelling.h"
#include "bench/models.h"
#include "dataset/text_file.h"
#include "model/exit_calibration.h"
#include "report/statistics.h"
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
    settings_.draft = draft_.settings;
  }

  // Everyone gets the prompt of the seed.
  void repeat(uint64_t seed, bool record) override {
    const uint64_t places = tokens_.size() - static_cast<size_t>(point_.length) + 1;
    const auto prompt = std::span(tokens_).subspan(static_cast<size_t>(Random(seed, "prompt").below(places)),
                                                   static_cast<size_t>(point_.length));
    const Generated text = generate(model_, *tokenizer_, prompt, settings_, Random(seed, "sampling"));
    if (!record) return;
    // The first token belongs to the prompt.
    result_.decode.push_back(static_cast<double>(text.tokens.size() - 1) / text.decode_seconds);
    result_.steps += text.steps;
    result_.drafted += text.drafted;
    result_.accepted += text.accepted;
    add(result_.depth, text.depth);
    for (const int64_t depth : text.depths) layers_ += depth;
    result_.tokens += static_cast<int64_t>(text.depths.size());
  }

  Measured result(const kernels::Ceilings&) const override {
    WritingResult result = result_;
    if (result.tokens > 0) result.mean_depth = static_cast<double>(layers_) / static_cast<double>(result.tokens);
    return result;
  }

 private:
  const Transformer& model_;
  BenchPoint point_;
  const BenchSettings& s_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::vector<int32_t> tokens_;
  GenerateSettings settings_;
  OpenDraft draft_;
  WritingResult result_;
  int64_t layers_ = 0;  // that all tokens went through
};

}  // namespace

std::unique_ptr<PointMeasurement> measure_writing(Model& model, const BenchPoint& point, const BenchSettings& settings,
                                                  const WritingVariant& variant) {
  return std::make_unique<Writing>(model, point, settings, variant);
}

}  // namespace hone
