#include "serve/generate.h"

#include <algorithm>
#include <array>
#include <optional>

#include "base/clock.h"
#include "base/error.h"
#include "dataset/utf8.h"
#include "model/session.h"
#include "serve/stop_text.h"

namespace hone {
namespace {

// Tokens on their way to the reader.
class TextOutput {
 public:
  TextOutput(const Tokenizer& tokenizer, const std::vector<std::string>& stops,
             const std::function<bool(std::string_view)>& on_text, std::string& text)
      : tokenizer_(tokenizer), on_text_(on_text), text_(text), stop_(stops) {}

  void add(int32_t token) { give(stop_.push(characters_.push(tokenizer_.text_of(token)))); }
  void finish() {
    give(stop_.push(characters_.finish()));
    give(stop_.finish());
  }
  bool stopped() const { return stop_.found(); }
  bool wanted() const { return wanted_; }

 private:
  void give(const std::string& text) {
    if (text.empty() || !wanted_) return;
    text_ += text;
    if (on_text_) wanted_ = on_text_(text);
  }

  const Tokenizer& tokenizer_;
  const std::function<bool(std::string_view)>& on_text_;
  std::string& text_;
  Utf8Stream characters_;
  StopText stop_;
  bool wanted_ = true;
};

int64_t positions_of(const Config& config, int64_t wanted, int64_t prompt) {
  if (config.block.positions != PositionKind::learned) return wanted;
  if (prompt > config.context)
    throw input_error("the prompt has {} tokens, the model's learned positions end at {}; shorten the prompt", prompt,
                      config.context);
  return std::min(wanted, config.context);
}

}  // namespace

const char* name_of(Finish finish) {
  constexpr std::array names = {"length", "stop", "end", "context", "interrupted"};
  return names[static_cast<size_t>(finish)];
}

Generated generate(const Transformer& model, const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                   const GenerateSettings& settings, Random random,
                   const std::function<bool(std::string_view)>& on_text) {
  Generated result;
  Sampler sampler(settings.sampling, random);
  TextOutput output(tokenizer, settings.stops, on_text, result.text);
  std::vector<int32_t> sequence(prompt.begin(), prompt.end());
  if (sequence.empty()) sequence.push_back(document_separator);
  result.prompt_tokens = static_cast<int64_t>(sequence.size());
  if (settings.tokens <= 0) return result;

  // The last token is chosen and never fed.
  Session session(model, {.sequences = 1,
                          .capacity = positions_of(model.config(), result.prompt_tokens + settings.tokens - 1,
                                                   result.prompt_tokens),
                          .type = settings.type,
                          .code = settings.code});
  Stopwatch watch;
  Tensor logits = session.feed(std::span<const int32_t>(sequence), settings.prefill_chunk);
  std::optional<Finish> finish;
  while (!finish) {
    const int32_t token = sampler.next(logits.span<float>(), sequence, settings.ignore_end ? document_separator : -1);
    if (result.prefill_seconds == 0) result.prefill_seconds = watch.lap();
    if (token == document_separator) {
      finish = Finish::end;
      break;
    }
    result.tokens.push_back(token);
    sequence.push_back(token);
    // A model's vocabulary may be larger than its tokenizer's: such ids stand for no text.
    if (token < tokenizer.vocabulary()) output.add(token);
    if (output.stopped())
      finish = Finish::stop;
    else if (!output.wanted())
      finish = Finish::interrupted;
    else if (static_cast<int64_t>(result.tokens.size()) == settings.tokens)
      finish = Finish::length;
    else if (session.length() == session.capacity())
      finish = Finish::context;
    else
      logits = session.feed(std::span(&token, 1));
  }
  result.decode_seconds = watch.seconds();
  output.finish();
  result.finish = output.wanted() ? *finish : Finish::interrupted;
  return result;
}

}  // namespace hone
