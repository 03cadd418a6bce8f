#include "serve/service.h"

#include "base/clock.h"
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
  for (const Request& request : requests) check(request);
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
    request.wanted = [this, ticket] {
      const std::lock_guard one(ticket->mutex_);
      return !ticket->cancelled_ && !impatient_;
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

int64_t Service::run(double patience) {
  const StopLater until_drained;  // who is being served gets the rest
  std::optional<double> drained_since;
  int64_t cancelled = 0;  // before patience ended
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (stop_signal()) draining_ = true;
      if (draining_ && !drained_since) drained_since = seconds_now();
      if (patience > 0 && !impatient_ && drained_since && seconds_now() > *drained_since + patience) {
        impatient_ = true;
        cancelled = stats_.cancelled;
      }
      // A signal wakes nobody: it is looked for.
      if (engine_.idle() && inbox_.empty()) work_.wait_for(lock, std::chrono::milliseconds(100));
      take_in();
      if (engine_.idle()) {
        if (draining_) return impatient_ ? stats_.cancelled - cancelled : 0;
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
