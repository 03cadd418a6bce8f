#include "serve/service.h"

#include "base/stop.h"

namespace hone {

std::optional<Ticket::Piece> Ticket::next(double seconds) {
  std::unique_lock lock(mutex_);
  news_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return !pieces_.empty() || result_; });
  if (pieces_.empty()) return {};
  Piece piece = std::move(pieces_.front());
  pieces_.pop_front();
  return piece;
}

std::optional<Completion> Ticket::result() {
  const std::lock_guard lock(mutex_);
  return pieces_.empty() ? result_ : std::nullopt;
}

void Ticket::cancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
}

std::vector<std::shared_ptr<Ticket>> Service::submit(std::vector<Request> requests, std::optional<Refusal>& refusal) {
  for (const Request& request : requests) engine_.check(request);  // reads only what never changes
  std::vector<std::shared_ptr<Ticket>> tickets;
  const std::lock_guard lock(mutex_);
  if (draining_) refusal = Refusal::draining;
  if (static_cast<int64_t>(inbox_.size() + requests.size()) + stats_.waiting > most_waiting_) refusal = Refusal::full;
  if (refusal) return tickets;
  for (Request& request : requests) {
    auto ticket = std::make_shared<Ticket>();
    request.on_text = [ticket](std::string_view text, const std::vector<ScoredToken>& scores) {
      const std::lock_guard one(ticket->mutex_);
      ticket->pieces_.push_back({std::string(text), scores});
      ticket->news_.notify_all();
      return !ticket->cancelled_;
    };
    request.on_done = [ticket](const Completion& result) {
      const std::lock_guard one(ticket->mutex_);
      ticket->result_ = result;
      ticket->news_.notify_all();
    };
    request.wanted = [ticket] {
      const std::lock_guard one(ticket->mutex_);
      return !ticket->cancelled_;
    };
    inbox_.push_back({std::move(request), ticket});
    tickets.push_back(std::move(ticket));
  }
  work_.notify_all();
  return tickets;
}

void Service::take_in() {
  while (!inbox_.empty()) {
    engine_.submit(std::move(inbox_.front().request));
    inbox_.pop_front();
  }
  stats_ = engine_.stats();
}

void Service::run() {
  const StopLater until_drained;  // who is being served gets the rest
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (stop_signal()) draining_ = true;
      // A signal wakes nobody: it is looked for.
      if (engine_.idle() && inbox_.empty()) work_.wait_for(lock, std::chrono::milliseconds(100));
      take_in();
      if (engine_.idle()) {
        if (draining_) return;
        continue;
      }
    }
    engine_.step();
    const std::lock_guard lock(mutex_);
    stats_ = engine_.stats();
  }
}

void Service::drain() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
}

bool Service::draining() const {
  const std::lock_guard lock(mutex_);
  return draining_;
}

EngineStats Service::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

int64_t Service::waiting() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(inbox_.size()) + stats_.waiting;
}

}  // namespace hone
