#include "serve/engine.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/integers.h"
#include "base/spelling.h"
#include "serve/engine_text.h"

namespace hone {
namespace {

// Tokens of a text that are read again in a step, too.
constexpr int64_t block = kernels::attention_block;

}  // namespace

EngineSettings complete(const Config& config, EngineSettings s) {
  if (s.parallel < 1 || s.page_rows < 1 || s.page_rows % block || s.cache_tokens < 0 || s.capacity < 0)
    throw usage_error("an engine for {} texts at once, pages of {} tokens (a multiple of {}) and a cache of {}",
                      s.parallel, s.page_rows, block, s.cache_tokens);
  if (s.capacity == 0) s.capacity = config.context;
  s.capacity = std::min(s.capacity, max_positions(config));
  const int64_t pages = ceil_div(s.capacity, s.page_rows);
  if (s.cache_tokens == 0) s.cache_tokens = s.parallel * pages * s.page_rows;
  if (s.cache_tokens < s.page_rows) s.cache_tokens = s.page_rows;
  if (s.batching.most > 0) s.parallel = std::min(s.parallel, s.batching.most);
  s.chunk = whole_blocks(s.chunk);
  s.busy_chunk = std::min(whole_blocks(s.busy_chunk), s.chunk);
  return s;
}

Engine::Engine(const Transformer& model, const Tokenizer& tokenizer, const EngineSettings& settings)
    : Engine(std::make_unique<ModelExecutor>(model, complete(model.config(), settings)), tokenizer,
             complete(model.config(), settings)) {}

Engine::Engine(std::unique_ptr<Executor> executor, const Tokenizer& tokenizer, const EngineSettings& settings)
    : tokenizer_(tokenizer),
      settings_(settings),
      executor_(std::move(executor)),
      state_(executor_->state()),
      pages_(settings_.cache_tokens / settings_.page_rows, settings_.page_rows),
      needs_kept_(executor_->keeps()) {
  for (int64_t slot = settings_.parallel; slot-- > 0;) slots_.push_back(slot);
}

Engine::~Engine() = default;

void Engine::check(const Request& r) const {
  hone::check(r.sampling);
  StopText(r.stops);
  if (r.tokens < 0) throw usage_error("{} tokens cannot be generated", r.tokens);
  const Config& config = executor_->config();
  if (r.media && r.score_prompt) throw usage_error("a prompt with images or sounds cannot be scored");
  for (const int32_t id : r.prompt)
    if (id < 0 || id >= config.vocabulary)
      throw input_error("token {} is outside the model's vocabulary of {}", id, config.vocabulary);
  const int64_t prompt = std::max<int64_t>(1, static_cast<int64_t>(r.prompt.size()));
  const int64_t positions = positions_of(config, prompt + std::max<int64_t>(r.tokens, 1) - 1, prompt);
  if (positions > settings_.capacity)
    throw input_error("a prompt of {} and {} more are longer than the {} that a text may have",
                      counted(prompt, "token"), r.tokens, settings_.capacity);
  if (ceil_div(positions, settings_.page_rows) > pages_.size())
    throw input_error("a prompt of {} and {} more do not fit a cache of {}", counted(prompt, "token"), r.tokens,
                      pages_.size() * settings_.page_rows);
}

int64_t Engine::submit(Request request) {
  check(request);
  const int64_t prompt = std::max<int64_t>(1, static_cast<int64_t>(request.prompt.size())), tokens = request.tokens;
  auto text =
      std::make_unique<Text>(next_id_++, std::move(request), tokenizer_, executor_->now(),
                             positions_of(executor_->config(), prompt + std::max<int64_t>(tokens, 1) - 1, prompt));
  ++stats_.requests;
  const int64_t id = text->id;
  by_id_[id] = text.get();
  if (tokens == 0 && !text->request.score_prompt) {  // nothing to compute
    end(*text, Finish::length);
    by_id_.erase(id);
    return id;
  }
  text->rank = settings_.order->rank({prompt, tokens});
  insert(waiting_, std::move(text));
  return id;
}

template <class List>
void Engine::insert(List& list, std::unique_ptr<Text> text) {
  const auto place =
      std::ranges::upper_bound(list, text, [](const auto& mine, const auto& other) { return mine->before(*other); });
  list.insert(place, std::move(text));
}

void Engine::cancel(int64_t id) {
  if (const auto found = by_id_.find(id); found != by_id_.end()) found->second->cancelled = true;
}

bool Engine::step() {
  const double begin = executor_->now(), before = stats_.model_seconds;
  drop_unwanted();
  admit();
  std::vector<Part> parts = plan();
  if (!parts.empty()) {
    run(parts);
    sweep();
    ++stats_.steps;
  }
  stats_.own_seconds += executor_->now() - begin - (stats_.model_seconds - before);
  return !idle();
}

void Engine::drop_unwanted() {
  bool any = false;
  const auto look = [&](auto& list) {
    for (const auto& text : list)
      if (text->cancelled || (text->request.wanted && !text->request.wanted())) {
        end(*text, Finish::interrupted);
        any = true;
      }
  };
  look(running_);
  look(waiting_);
  if (any) sweep();
}

// Who stands first begins as soon as the policy admits it, there is a place, and there are pages for all that it has so
// far.
void Engine::admit() {
  Admission now{.was_idle = running_.empty()};
  while (!waiting_.empty() && !slots_.empty()) {
    now.running = static_cast<int64_t>(running_.size());
    now.reading = std::ranges::any_of(running_, [](const auto& text) { return text->in_prompt(); });
    if (!settings_.batching.policy->admits(now)) return;
    Text& text = *waiting_.front();
    // Besides its own, a page for each of the others, who would else take them back at once.
    const int64_t need = ceil_div(text.size(), settings_.page_rows);
    if (!running_.empty() && need + static_cast<int64_t>(running_.size()) > pages_.available()) return;
    start(text);
    std::unique_ptr<Text> first = std::move(waiting_.front());
    waiting_.pop_front();
    insert(running_, std::move(first));
  }
}

void Engine::start(Text& text) {
  text.slot = slots_.back();
  slots_.pop_back();
  if (!std::exchange(text.began, true)) text.result.queue_seconds = executor_->now() - text.came;
  text.seen = text.in_tree = 0;
  text.node = Pages::root;
  text.stops.clear();
  state_.begin(text.slot, 0, nullptr);
  // The last token is always read: something has to come out. And those that share lanes with it are.
  const Input keys = text.keys();
  const int64_t most = (text.prompt - 1) / Pages::grain * Pages::grain;
  Pages::Hit hit;
  if (settings_.reuse && !text.request.score_prompt) hit = pages_.find(keys, most, needs_kept_);
  text.pages = hit.pages;
  for (size_t i = 0; i < text.pages.size(); ++i) state_.table().at(text.slot, static_cast<int64_t>(i)) = text.pages[i];
  text.node = hit.node;
  text.in_tree = static_cast<int64_t>(text.pages.size());
  if (hit.partial >= 0) {
    if (const auto page = pages_.take()) {
      state_.copy_page(hit.partial, *page, hit.partial_rows);
      state_.table().at(text.slot, static_cast<int64_t>(text.pages.size())) = *page;
      text.pages.push_back(*page);
    } else {
      hit.tokens -= hit.partial_rows;
    }
    pages_.release(hit.partial);
  }
  if (hit.tokens > 0) state_.begin(text.slot, hit.tokens, needs_kept_ ? hit.kept.get() : nullptr);
  text.seen = hit.tokens;
  if (text.request.tokens > 0 && text.size() == text.prompt) text.result.cached_tokens = hit.tokens;
  stats_.cached_tokens += hit.tokens;
  if (!needs_kept_ || !settings_.reuse) return;
  // What rings and summaries hold is kept where other prompts left this one, and at the prompt's end.
  for (const int64_t tokens : {hit.in_tree, keys.uncut_before(most, settings_.page_rows)})
    if (tokens > hit.tokens && (text.stops.empty() || text.stops.back() < tokens)) text.stops.push_back(tokens);
}

// Pages for the text's first `tokens` tokens; false where they could only be had from texts that stand before it.
bool Engine::make_room(Text& text, int64_t tokens) {
  while (static_cast<int64_t>(text.pages.size()) * settings_.page_rows < tokens) {
    if (const auto page = pages_.take()) {
      state_.table().at(text.slot, static_cast<int64_t>(text.pages.size())) = *page;
      text.pages.push_back(*page);
      continue;
    }
    Text& last = *running_.back();
    if (&last == &text) return false;
    preempt(last);
  }
  return true;
}

void Engine::preempt(Text& text) {
  ++stats_.preemptions;
  give_back(text);
  const auto found = std::ranges::find_if(running_, [&](const auto& other) { return other.get() == &text; });
  std::unique_ptr<Text> last = std::move(*found);
  running_.erase(found);
  insert(waiting_, std::move(last));
}

void Engine::give_back(Text& text) {
  for (const int32_t page : text.pages) pages_.release(page);
  text.pages.clear();
  if (text.slot >= 0) slots_.push_back(text.slot);
  text.slot = -1;
  text.seen = 0;
}

int64_t Engine::next_stop(const Text& text) const {
  for (const int64_t stop : text.stops)
    if (stop > text.seen) return stop;
  return text.prompt;
}

// Of a piece of a prompt, of at most `chunk` tokens, or as many as it takes not to divide an image or sound. Where it
// begins within a block, for what was found in the cache, and is not the last, it ends with a block, so that the next
// begins with one.
int64_t Engine::end_of_piece(const Text& text, int64_t chunk) const {
  const int64_t stop = next_stop(text);
  if (stop - text.seen <= chunk) return stop;
  return std::min(stop, text.input().uncut((text.seen + chunk) / block * block));
}

// Steps first, then what is read: a piece of a prompt, or of what had been written before it was preempted.
std::vector<Engine::Part> Engine::plan() {
  std::vector<Part> steps;
  Text* reading = nullptr;
  bool writing = false;
  for (size_t i = 0; i < running_.size(); ++i) {
    Text& text = *running_[i];
    if (text.size() - text.seen > 1 || text.in_prompt()) {
      if (!reading) reading = &text;
      continue;
    }
    if (!make_room(text, text.seen + 1)) {
      preempt(text);  // it is the last
      break;
    }
    steps.push_back({&text, 1, Phase::step});
    writing = true;
  }
  // make_room() preempts from the end: who was planned stays, but for one that reads.
  if (reading && std::ranges::none_of(running_, [&](const auto& text) { return text.get() == reading; }))
    reading = nullptr;
  if (!reading) return steps;
  if (!settings_.batching.policy->beside_prompts) {
    steps.clear();
    writing = false;
  }
  Part part{reading, 0, reading->in_prompt() ? Phase::prompt : Phase::step};
  const int64_t end = reading->in_prompt() ? end_of_piece(*reading, writing ? settings_.busy_chunk : settings_.chunk)
                                           : std::min(reading->size(), reading->seen + block);
  part.count = end - reading->seen;
  if (!make_room(*reading, end)) {
    preempt(*reading);
    return steps;
  }
  // Who stands behind it may have been preempted for it.
  std::erase_if(steps, [](const Part& step) { return step.text->slot < 0; });
  steps.push_back(part);
  return steps;
}

void Engine::sweep() {
  const auto drop = [&](auto& list) {
    std::erase_if(list, [&](const auto& text) { return text->ended && (by_id_.erase(text->id), true); });
  };
  drop(waiting_);
  drop(running_);
}

EngineStats Engine::stats() const {
  EngineStats s = stats_;
  s.running = static_cast<int64_t>(running_.size());
  s.waiting = static_cast<int64_t>(waiting_.size());
  s.pages = pages_.size();
  s.pages_in_use = pages_.in_use();
  s.pages_free = pages_.free();
  // Only the pages of one text alone are not full.
  s.page_tokens = s.pages_in_use * settings_.page_rows;
  for (const auto& text : running_)
    s.page_tokens -= static_cast<int64_t>(text->pages.size()) * settings_.page_rows - text->seen;
  return s;
}

}  // namespace hone
