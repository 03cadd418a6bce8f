// An engine for many threads: they bring requests and wait for texts, one thread runs the steps.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>

#include "serve/engine.h"

namespace hone {

// A request on its way. What comes is read by one thread.
class Ticket {
 public:
  struct Piece {
    std::string text;
    std::vector<ScoredToken> scores;
  };
  // The next piece of text, waiting at most that long; nothing where none came, or all is said.
  std::optional<Piece> next(double seconds);
  // Once all pieces were read: what came of the request.
  std::optional<Completion> result();
  // Nobody wants it any more: what it has is given back with the next step.
  void cancel();

 private:
  friend class Service;
  std::mutex mutex_;
  std::condition_variable news_;
  std::deque<Piece> pieces_;
  std::optional<Completion> result_;
  bool cancelled_ = false;
};

class Service {
 public:
  // `queue`: texts that may wait.
  Service(Engine& engine, int64_t queue) : engine_(engine), most_waiting_(queue) {}
  int64_t queue() const { return most_waiting_; }
  void check(const Request& request) const { engine_.check(request); }  // reads only what never changes

  enum class Refusal { full, draining };
  // All of them or none; they begin in this order. Throws as Engine::check() for what could never run.
  std::vector<std::shared_ptr<Ticket>> submit(std::vector<Request> requests, std::optional<Refusal>& refusal);
  // Steps until drain() was called and nothing is left; in the thread that the kernels know. What is left `patience`
  // seconds after that ends with Finish::interrupted; 0: it may take as long as it takes. Returns how many did.
  int64_t run(double patience = 0);
  void drain();
  bool draining() const;
  EngineStats stats() const;  // as of the latest step
  int64_t waiting() const;    // requests that have not begun

 private:
  struct Waiting {
    Request request;
    std::shared_ptr<Ticket> ticket;
  };
  void take_in();

  Engine& engine_;
  int64_t most_waiting_;
  mutable std::mutex mutex_;
  std::condition_variable work_;
  std::deque<Waiting> inbox_;
  bool draining_ = false;
  std::atomic<bool> impatient_ = false;
  EngineStats stats_;
};

}  // namespace hone
