#include "serve/generate.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>

#include "base/clock.h"
#include "base/error.h"
#include "base/spelling.h"
#include "model/exits.h"
#include "serve/written_text.h"

namespace hone {
namespace {

// The tokens of a text, one step of the model after another. A step gives one token, or with drafts several.
class Writer {
 public:
  Writer(const Transformer& model, const GenerateSettings& settings, std::vector<int32_t>& sequence, Random random,
         Generated& counts, int32_t separator)
      : model_(model),
        settings_(settings),
        sequence_(sequence),
        counts_(counts),
        sampler_(settings.sampling, random),
        banned_(settings.ignore_end ? separator : -1),
        // The last token is chosen and never fed. Room to take drafts back is there without drafts, too: the order of
        // rows in a ring, and so the last bits of what is read from it, must not depend on them.
        session_(model, {1, positions_of(model.config(), size() + settings.tokens - 1, size()), settings.type,
                         most_drafted, settings.code}) {
    session_.trace.depth = &counts.depth;
    if (settings.exits) begin_exits();
    if (settings.draft.kind.empty()) return;
    drafter_ = make_drafter(settings.draft, model, session_, settings.sampling, settings.draft_seed, banned_);
  }

  int32_t first(std::span<const MediaPart> parts) {
    const Session::Piece prompt{0, Input(sequence_, parts), Phase::prompt};
    const int64_t chunk = whole_blocks(settings_.prefill_chunk);
    const Tensor logits = session_.feed({&prompt, 1}, chunk);
    if (drafter_) {
      drafter_->read_prompt(sequence_, chunk);
      length_.emplace(settings_.draft.tokens, drafter_->cost());
    }
    if (settings_.exits) counts_.depths.push_back(depths_.back());
    return sampler_.next(logits.span<float>(), sequence_, banned_);
  }

  bool full() const { return session_.begun() == session_.capacity(); }

  // The tokens after the sequence, at most `most`.
  std::vector<int32_t> step(int64_t most) {
    ++counts_.steps;
    if (settings_.exits) return {shallow_step()};
    const int64_t room = std::min(most, session_.capacity() - session_.length()) - 1;
    std::vector<Drafted> drafted;
    if (drafter_)
      if (const int64_t count = length_->next(room); count > 0) drafted = drafter_->propose(sequence_, count);
    std::vector<int32_t> ids = {sequence_.back()};
    for (const Drafted& d : drafted) ids.push_back(d.token);
    const int64_t before = session_.length();
    const NoTape pause;
    const Tensor logits = model_.logits(session_.hidden(ids));
    const std::vector<int32_t> chosen = verified(logits, drafted);
    session_.truncate(0, before + static_cast<int64_t>(chosen.size()));
    return chosen;
  }

 private:
  int64_t size() const { return static_cast<int64_t>(sequence_.size()); }

  void begin_exits() {
    const int64_t end = settings_.exits.max_depth > 0 ? settings_.exits.max_depth : model_.layers();
    if (settings_.exits.rule)
      for (const int64_t depth : exits_of(model_.config()))
        if (depth < end) depths_.push_back(depth);
    depths_.push_back(end);
    session_.end_behind(end);
    session_.set_filling(settings_.exits.filling);
  }

  // The token after the sequence, from the first exit that is sure.
  int32_t shallow_step() {
    const NoTape pause;
    Tensor before;  // what the exit before has read
    for (const int64_t depth : depths_) {
      const bool begins = depth == depths_.front();
      const Tensor hidden = begins ? session_.shallow(std::span(sequence_).last(1), depth) : session_.deeper(depth);
      const Tensor logits = model_.logits(hidden);
      if (depth < depths_.back()) {
        const Tensor here = hidden.to(DType::f32);
        ExitSeen seen = {logits.span<float>(), here.span<float>()};
        if (before) seen.before = before.span<float>();
        if (!settings_.exits.rule->sure(seen)) {
          before = here;
          continue;
        }
      }
      counts_.depths.push_back(depth);
      return sampler_.next(logits.span<float>(), sequence_, banned_);
    }
    throw internal_error("a token passed the end of the model");
  }

  // The drafted tokens that stand, and the model's own one behind them.
  std::vector<int32_t> verified(const Tensor& logits, const std::vector<Drafted>& drafted) {
    const size_t before = sequence_.size();
    std::vector<int32_t> chosen;
    for (size_t i = 0; chosen.size() == i; ++i) {
      const Tensor row = logits.rows(static_cast<int64_t>(i), 1);
      const Distribution& wanted = sampler_.distribution(row.span<float>(), sequence_, banned_);
      const bool guessed = i < drafted.size();
      chosen.push_back(guessed ? sampler_.verify(wanted, drafted[i].token, drafted[i].from) : sampler_.draw(wanted));
      sequence_.push_back(chosen.back());
      if (!guessed || chosen.back() != drafted[i].token) break;
    }
    sequence_.resize(before);  // whether they become part of the text is the caller's to say
    const int64_t accepted = static_cast<int64_t>(chosen.size()) - 1;
    counts_.drafted += static_cast<int64_t>(drafted.size());
    counts_.verified += std::min(accepted + 1, static_cast<int64_t>(drafted.size()));
    counts_.accepted += accepted;
    if (length_) length_->took(static_cast<int64_t>(drafted.size()), accepted);
    return chosen;
  }

  const Transformer& model_;
  const GenerateSettings& settings_;
  std::vector<int32_t>& sequence_;
  Generated& counts_;
  Sampler sampler_;
  int32_t banned_;
  Session session_;
  std::unique_ptr<Drafter> drafter_;
  std::optional<DraftLength> length_;
  std::vector<int64_t> depths_;  // with exits: where a token may end
};

}  // namespace

const char* name_of(Finish finish) {
  constexpr std::array names = {"length", "stop", "end", "context", "interrupted", "failed"};
  return names[static_cast<size_t>(finish)];
}

void check(const ExitSettings& settings, const Config& config) {
  const auto layers = static_cast<int64_t>(config.layers.size());
  const std::vector<int64_t> exits = exits_of(config);
  if (settings.rule) require_exits(config, "leaving early");
  const int64_t depth = settings.max_depth;
  if (depth == 0 || depth == layers || std::ranges::find(exits, depth) != exits.end()) return;
  require_exits(config, fmt::format("a depth of {}", depth));
  throw usage_error("nothing can be read behind {}; the model has exits behind {}, and {}", counted(depth, "layer"),
                    fmt::join(exits, ", "), counted(layers, "layer"));
}

double Generated::mean_depth() const {
  return static_cast<double>(std::accumulate(depths.begin(), depths.end(), int64_t{0})) /
         static_cast<double>(std::max<size_t>(depths.size(), 1));
}

Generated generate(const Transformer& model, const Tokenizer& tokenizer, const Input& prompt,
                   const GenerateSettings& settings, Random random,
                   const std::function<bool(std::string_view)>& on_text) {
  Generated result;
  check(settings.sampling);
  check(settings.exits, model.config());
  WrittenText output(tokenizer, settings.stops, on_text, result.text);
  std::vector<int32_t> sequence(prompt.ids.begin(), prompt.ids.end());
  if (sequence.empty()) sequence.push_back(tokenizer.separator());
  result.prompt_tokens = static_cast<int64_t>(sequence.size());
  if (settings.tokens <= 0) return result;

  Writer writer(model, settings, sequence, random, result, tokenizer.separator());
  Stopwatch watch;
  std::optional<Finish> finish;
  const auto left = [&] { return settings.tokens - static_cast<int64_t>(result.tokens.size()); };
  const auto take = [&](int32_t token) {
    if (token == tokenizer.separator()) {
      finish = Finish::end;
      return;
    }
    result.tokens.push_back(token);
    sequence.push_back(token);
    // A model's vocabulary may be larger than its tokenizer's: such ids stand for no text.
    if (token < tokenizer.vocabulary()) output.add(token);
    if (output.stopped())
      finish = Finish::stop;
    else if (!output.wanted())
      finish = Finish::interrupted;
    else if (left() == 0)
      finish = Finish::length;
  };
  take(writer.first(prompt.parts));
  result.prefill_seconds = watch.lap();
  while (!finish) {
    if (writer.full()) {
      finish = Finish::context;
      break;
    }
    for (const int32_t token : writer.step(left()))
      if (!finish) take(token);
  }
  result.decode_seconds = watch.seconds();
  output.finish();
  result.finish = output.wanted() ? *finish : Finish::interrupted;
  return result;
}

}  // namespace hone
