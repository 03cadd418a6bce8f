// The part of a step that is the model's: reading, choosing tokens, and what follows from them.
#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "serve/engine_text.h"

namespace hone {

void Engine::run(std::vector<Part>& parts) {
  const bool mixed = parts.size() > 1 && parts.back().phase == Phase::prompt;
  const size_t steps = parts.size() - (parts.back().phase == Phase::prompt);
  // Steps never go by kind: no part is in their rows.
  const bool by_kind = parts.back().text->request.media && has_weights_by_kind(executor_->config());
  if (mixed && (by_kind || !executor_->mixes())) {
    read(std::span(parts).first(steps), Phase::step);
    read(std::span(parts).subspan(steps), Phase::prompt);
  } else {
    read(parts, parts.back().phase);
  }
  choose(parts);
}

// One call of the model.
void Engine::read(std::span<Part> parts, Phase phase) {
  std::vector<Span> spans;
  JoinedInput rows;
  for (const Part& part : parts) {
    const Text& text = *part.text;
    spans.push_back({text.slot, text.seen, part.count, part.phase});
    rows.add(part.phase == Phase::prompt ? text.input() : Input(text.ids), text.seen, part.count);
  }
  const double begin = executor_->now();
  const Tensor hidden = executor_->read(std::move(spans), rows.input(), phase);
  stats_.model_seconds += executor_->now() - begin;
  int64_t row = 0;
  for (Part& part : parts) {
    Text& text = *part.text;
    const int64_t first = text.seen;
    text.seen += part.count;
    const bool prompt = part.phase == Phase::prompt;
    if (prompt) {
      stats_.prompt_tokens += part.count;
      if (text.request.score_prompt && hidden) score_prompt(text, first, hidden.rows(row, part.count));
      remember(text);
    } else {
      (text.seen == text.size() ? stats_.decoded_tokens : stats_.repeated_tokens) += part.count;
    }
    part.chooses = text.seen == text.size();
    if (part.chooses && hidden) part.last = hidden.rows(row + part.count - 1, 1);
    row += part.count;
  }
}

// Full pages of a prompt become the tree's, and what it has of the last one. Those of what was written do not: its keys
// and values have the bits of steps, and who asks for them would read them as a prompt.
void Engine::remember(Text& text) {
  if (!settings_.reuse) return;
  const int64_t rows = settings_.page_rows;
  const std::span<const int32_t> keys = text.keys().ids;
  for (; (text.in_tree + 1) * rows <= std::min(text.seen, text.prompt); ++text.in_tree) {
    const auto i = static_cast<size_t>(text.in_tree);
    text.node = pages_.insert(
        text.node, keys.subspan(static_cast<size_t>(text.in_tree * rows), static_cast<size_t>(rows)), text.pages[i]);
    state_.table().at(text.slot, text.in_tree) = text.pages[i];
  }
  const int64_t full = text.in_tree * rows, part = (text.prompt - full) / Pages::grain * Pages::grain;
  if (!needs_kept_ && !text.in_prompt() && part > 0)
    pages_.insert_part(text.node, keys.subspan(static_cast<size_t>(full), static_cast<size_t>(part)),
                       text.pages[static_cast<size_t>(text.in_tree)]);
  if (needs_kept_ && std::ranges::find(text.stops, text.seen) != text.stops.end() && !pages_.kept(text.node))
    pages_.keep(text.node, state_.keep(text.slot));
}

void Engine::score_prompt(Text& text, int64_t first, const Tensor& hidden) {
  const int64_t count = std::min(hidden.dim(0), text.prompt - 1 - first);
  if (count < 1 || text.size() > text.prompt) return;
  const double begin = executor_->now();
  const Tensor logits = executor_->logits(hidden.rows(0, count), Phase::prompt);
  stats_.model_seconds += executor_->now() - begin;
  // A prompt that begins again after it was preempted has some of them.
  std::vector<ScoredToken>& scores = text.result.prompt_scores;
  const auto known = static_cast<int64_t>(scores.size()), more = first + count - known;
  if (more < 1) return;
  scores.resize(static_cast<size_t>(known + more));
  kernels::parallel_for(more, kernels::row_grain(4 * logits.dim(1)), [&](int64_t begin_at, int64_t end_at) {
    for (int64_t i = known + begin_at; i < known + end_at; ++i)
      scores[static_cast<size_t>(i)] =
          score(logits.rows(i - first, 1).span<float>(), text.ids[static_cast<size_t>(i + 1)],
                std::max<int64_t>(text.request.logprobs, 0));
  });
}

// The next token of each text of which all tokens were seen.
void Engine::choose(std::span<Part> parts) {
  std::vector<Part*> ready;
  for (Part& part : parts)
    if (part.chooses) ready.push_back(&part);
  if (ready.empty()) return;
  const double begin = executor_->now();
  const Tensor logits = logits_of(ready);
  const double chosen = executor_->now();
  stats_.model_seconds += chosen - begin;
  draw(ready, logits);
  for (Part* part : ready) choose(*part->text);
  stats_.choice_seconds += executor_->now() - chosen;
}

Tensor Engine::logits_of(std::span<Part* const> ready) {
  if (!ready.front()->last) return {};
  const int64_t dim = executor_->config().block.dim;
  const Tensor rows = Tensor::empty({static_cast<int64_t>(ready.size()), dim}, settings_.type);
  for (size_t i = 0; i < ready.size(); ++i)
    std::memcpy(rows.rows(static_cast<int64_t>(i), 1).raw(), ready[i]->last.raw(), ready[i]->last.bytes());
  return executor_->logits(rows, Phase::step);
}

// The next token of each, by all threads: of a large vocabulary choosing is work. Without logits any will do.
void Engine::draw(std::span<Part* const> ready, const Tensor& logits) {
  const auto one = [&](size_t i) {
    Text& text = *ready[i]->text;
    text.next = text.separator == 1 ? 0 : 1;
    if (!logits || text.request.tokens == 0) return;
    const std::span<const float> row = logits.rows(static_cast<int64_t>(i), 1).span<float>();
    try {
      text.next = text.sampler.next(row, text.ids, text.banned());
      if (text.request.logprobs >= 0) text.next_score = score(row, *text.next, text.request.logprobs);
    } catch (const Error&) {  // logits that are not finite: this text's trouble alone
      text.next.reset();
    }
  };
  const int64_t work = logits ? logits.dim(1) : 1;
  kernels::parallel_for(static_cast<int64_t>(ready.size()), kernels::row_grain(work), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) one(static_cast<size_t>(i));
  });
}

// One token more, and what follows from it.
void Engine::choose(Text& text) {
  Completion& result = text.result;
  if (text.request.tokens == 0) return end(text, Finish::length);
  if (!text.next) return end(text, Finish::failed);
  try {
    const int32_t token = *text.next;
    if (result.tokens.empty()) result.first_token_seconds = executor_->now() - text.came;
    if (text.request.on_token) text.request.on_token();
    if (text.request.logprobs >= 0) result.scores.push_back(std::move(text.next_score));
    if (token == text.separator) return end(text, Finish::end);
    result.tokens.push_back(token);
    text.ids.push_back(token);
    if (token < tokenizer_.vocabulary()) text.output.add(token);
    if (text.output.stopped())
      end(text, Finish::stop);
    else if (!text.output.wanted())
      end(text, Finish::interrupted);
    else if (static_cast<int64_t>(result.tokens.size()) == text.request.tokens)
      end(text, Finish::length);
    else if (text.seen == text.positions)
      end(text, Finish::context);
  } catch (const Error&) {  // of who takes the text: nobody else's trouble
    end(text, Finish::failed);
  }
}

void Engine::end(Text& text, Finish finish) {
  text.ended = true;
  if (finish != Finish::interrupted && finish != Finish::failed) text.output.finish();
  text.result.finish = text.output.wanted() || finish == Finish::failed ? finish : Finish::interrupted;
  text.result.seconds = executor_->now() - text.came;
  give_back(text);
  ++(text.result.finish == Finish::interrupted ? stats_.cancelled : stats_.finished);
  if (text.request.on_done) text.request.on_done(text.result);
}

}  // namespace hone
