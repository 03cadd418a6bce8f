// Many texts at once (continuous batching: Orca, Yu et al., OSDI 2022; pages: PagedAttention, Kwon et al. 2023, arXiv
// 2309.06180; chunks of prompts beside decode steps: Sarathi, Agrawal et al. 2023, arXiv 2308.16369).
#pragma once

#include <deque>
#include <memory>
#include <unordered_map>

#include "serve/batching.h"
#include "serve/executor.h"
#include "serve/order.h"
#include "serve/pages.h"
#include "serve/request.h"

namespace hone {

struct EngineSettings {
  int64_t parallel = 8;                          // texts that are written at once
  int64_t cache_tokens = 0;                      // of all of them; 0: parallel * capacity
  int64_t page_rows = kernels::attention_block;  // tokens of a page
  int64_t capacity = 0;                          // tokens of one text, its prompt included; 0: the model's context
  int64_t chunk = 512;                           // tokens of a prompt in a step while nothing else runs
  int64_t busy_chunk = 256;                      // and beside texts that are being written
  bool reuse = true;                             // beginnings of prompts that are in the cache
  Batching batching = default_batching();
  const ServiceOrder* order = &service_orders().front();
  DType type = DType::f32;
  kernels::CacheCode code = kernels::CacheCode::none;
};

struct EngineStats {
  int64_t steps = 0, decoded_tokens = 0, prompt_tokens = 0;  // that went through the model
  int64_t cached_tokens = 0;                                 // of prompts, that did not have to
  int64_t repeated_tokens = 0, preemptions = 0;
  int64_t requests = 0, finished = 0, cancelled = 0;
  int64_t running = 0, waiting = 0;
  int64_t pages = 0, pages_in_use = 0;        // by texts that are being written
  int64_t pages_free = 0;                     // the others hold what may be reused
  int64_t page_tokens = 0;                    // that stand in the pages in use
  double model_seconds = 0, own_seconds = 0;  // of steps: in calls of the model, and in all that is around them
  double choice_seconds = 0;                  // of the latter, in choosing tokens and making text of them
};

// A step of the model serves everybody: one more token of each text that is being written, and at most one piece of a
// prompt. What a request gets does not depend on the others: its tokens, and their log-probabilities to the last bit,
// are those that generate() gives alone, whatever is batched, cut, found in the cache or computed again.
//
// Texts have places in the order of service, and nobody overtakes who stands before it. When pages run out, who stands
// last of those that run gives its own back and waits again; its tokens are then read again as they were written, which
// gives the same bits.
//
// Not for several threads at once.
class Engine {
 public:
  // Throws Error(usage) for settings that make no sense or do not fit into memory.
  Engine(const Transformer& model, const Tokenizer& tokenizer, const EngineSettings& settings);
  // The same plans, carried out by something else; `settings` are complete().
  Engine(std::unique_ptr<Executor> executor, const Tokenizer& tokenizer, const EngineSettings& settings);
  ~Engine();

  // Throws Error(usage) or Error(input) for a request that could never run: nothing else changes.
  void check(const Request& request) const;
  int64_t submit(Request request);  // its number; throws as check()
  // Its on_done() is called with Finish::interrupted, unless it has ended already.
  void cancel(int64_t id);
  bool idle() const { return running_.empty() && waiting_.empty(); }
  // One call of the model. False where there is nothing to do.
  bool step();
  EngineStats stats() const;
  const EngineSettings& settings() const { return settings_; }
  double now() const { return executor_->now(); }  // by the clock of its steps
  void wait_until(double seconds) { executor_->wait_until(seconds); }

 private:
  struct Text;
  struct Part;

  void drop_unwanted();
  void admit();
  // In a list in the order of service.
  template <class List>
  void insert(List& list, std::unique_ptr<Text> text);
  void start(Text& text);
  bool make_room(Text& text, int64_t tokens);
  void preempt(Text& text);
  std::vector<Part> plan();
  void run(std::vector<Part>& parts);
  void read(std::span<Part> parts, Phase phase);
  void remember(Text& text);
  void score_prompt(Text& text, int64_t first, const Tensor& hidden);
  void choose(std::span<Part> parts);
  void draw(std::span<Part* const> ready, const Tensor& logits);
  void choose(Text& text);
  Tensor logits_of(std::span<Part* const> ready);
  void end(Text& text, Finish finish);
  void give_back(Text& text);
  void sweep();
  int64_t next_stop(const Text& text) const;
  int64_t end_of_piece(const Text& text, int64_t chunk) const;

  const Tokenizer& tokenizer_;
  EngineSettings settings_;
  std::unique_ptr<Executor> executor_;
  State& state_;
  Pages pages_;
  bool needs_kept_;
  std::deque<std::unique_ptr<Text>> waiting_;
  std::vector<std::unique_ptr<Text>> running_;  // both in the order of service
  std::vector<int64_t> slots_;                  // of the state, free ones
  std::unordered_map<int64_t, Text*> by_id_;
  int64_t next_id_ = 0;
  EngineStats stats_;
};

// With the numbers that 0 stands for. Throws Error(usage) for settings that make no sense.
EngineSettings complete(const Config& config, EngineSettings settings);

// The scores of logits f32 [vocabulary]: of `token`, and of the `top` most probable ones.
ScoredToken score(std::span<const float> logits, int32_t token, int64_t top);

}  // namespace hone
