#include "kernels/awake.h"

#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <system_error>
#include <thread>

#include "base/bed.h"
#include "kernels/parallel.h"

namespace hone::kernels {
namespace {

using std::chrono::microseconds;

constexpr microseconds last_ones(20);  // the leader looks for so long for helpers that are about to be done

thread_local int index_in_loop = -1;

// The threads of a process and the loop that they are in. Never destroyed: threads sleep in it when the program ends.
class Team {
 public:
  static Team& of_process();

  // False: another thread leads.
  bool begin() {
    if (led_.exchange(true, std::memory_order_acquire)) return false;
    grow();
    return true;
  }
  void end() { led_.store(false, std::memory_order_release); }

  void run(int count, int owners, int64_t pieces, void (*body)(void*, detail::SharedLoop&, int), void* context);

 private:
  // The word that all look at: how many helpers are in the loop, whether more may come, of how many threads the loop
  // is, and which one it is. A helper reads what the loop is only while it is counted; the leader writes it only while
  // nobody is, and nobody may come.
  static constexpr uint32_t helpers = 0x3ff, open = 0x400, one_thread = 0x800, one_loop = 0x200000;
  static constexpr int most_threads = one_loop / one_thread - 1;

  static bool may_join(uint32_t state, int index, uint32_t last) {
    return (state & open) && state / one_loop != last && static_cast<uint32_t>(index) < state % one_loop / one_thread;
  }

  void grow();
  void help(int index, Bed& bed);
  void work(int index) noexcept;  // who left a loop by an exception would leave others in what it owns
  bool join(int index, uint32_t& last);
  void leave();
  void wait_for_helpers();

  alignas(64) std::atomic<uint32_t> state_{0};
  Bed leaders_;
  std::atomic<bool> led_{false};
  std::atomic<int64_t> patience_us_{0};
  const pid_t process_ = getpid();
  // The leader's.
  std::deque<Bed> beds_;  // of helper 1, 2, …
  uint32_t number_ = 0;
  detail::SharedLoop loop_;
  void (*body_)(void*, detail::SharedLoop&, int) = nullptr;
  void* context_ = nullptr;
};

// A copy of the process, by fork(), has none of its threads.
Team& Team::of_process() {
  static std::atomic<Team*> team{nullptr};
  Team* found = team.load(std::memory_order_acquire);
  if (found && found->process_ == getpid()) return *found;
  auto* fresh = new Team;
  if (team.compare_exchange_strong(found, fresh, std::memory_order_acq_rel)) return *fresh;
  delete fresh;
  return *found;
}

void Team::grow() {
  const int wanted = std::min(threads(), most_threads) - 1;
  patience_us_.store((threads() <= processors() ? patience : impatience).count(), std::memory_order_relaxed);
  while (static_cast<int>(beds_.size()) < wanted) {
    Bed& bed = beds_.emplace_back();
    try {
      std::thread([this, index = static_cast<int>(beds_.size()), &bed] { help(index, bed); }).detach();
    } catch (const std::system_error&) {  // no more threads here: those that there are do all the work
      beds_.pop_back();
      return;
    }
  }
}

void Team::work(int index) noexcept {
  index_in_loop = index;
  body_(context_, loop_, index);
  index_in_loop = -1;
}

// Enters the loop that is open, unless it is `last`, which becomes it.
bool Team::join(int index, uint32_t& last) {
  uint32_t state = state_.load(std::memory_order_acquire);
  while (may_join(state, index, last))
    if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) {
      last = state / one_loop;
      return true;
    }
  return false;
}

void Team::leave() {
  const uint32_t before = state_.fetch_sub(1, std::memory_order_seq_cst);
  if (!(before & open) && (before & helpers) == 1) leaders_.wake();
}

void Team::help(int index, Bed& bed) {
  detail::flush_small_numbers();
  for (uint32_t last = 0;;) {
    const microseconds limit(patience_us_.load(std::memory_order_relaxed));
    while (!spin(limit, [&] { return join(index, last); }))
      bed.sleep([&] { return may_join(state_.load(std::memory_order_seq_cst), index, last); });
    work(index);
    leave();
  }
}

void Team::wait_for_helpers() {
  const auto alone = [&] { return (state_.load(std::memory_order_seq_cst) & helpers) == 0; };
  // Whoever is still there then may wait for this processor.
  while (!spin(last_ones, alone)) leaders_.sleep(alone);
}

void Team::run(int count, int owners, int64_t pieces, void (*body)(void*, detail::SharedLoop&, int), void* context) {
  count = std::min(count, most_threads);
  loop_.cut(pieces, owners);
  body_ = body;
  context_ = context;
  state_.exchange(++number_ * one_loop | static_cast<uint32_t>(count) * one_thread | open, std::memory_order_seq_cst);
  for (size_t i = 0; i < std::min(beds_.size(), static_cast<size_t>(count - 1)); ++i) beds_[i].wake();
  work(0);
  state_.fetch_and(~open, std::memory_order_seq_cst);
  wait_for_helpers();
}

thread_local Team* led = nullptr;

// Threads of our own would not be bound, and could not run beside some that never sleep.
bool openmp_alone() {
  static const bool active = [] {
    const char* policy = std::getenv("OMP_WAIT_POLICY");
    return policy && (*policy == 'a' || *policy == 'A');
  }();
  return active || threads_are_bound();
}

}  // namespace

bool threads_are_bound() {
  return omp_get_proc_bind() != omp_proc_bind_false;
}

Awake::Awake(int64_t rows) {
  if (rows > awake_rows || led || threads() < 2 || in_parallel() || openmp_alone()) return;
  Team& team = Team::of_process();
  began_ = team.begin();
  if (began_) led = &team;
}

Awake::~Awake() {
  if (began_) detail::end_awake();
}

bool Awake::leads() const {
  return began_ && led;
}

namespace detail {

bool run_awake(int count, int owners, int64_t pieces, void (*body)(void*, SharedLoop&, int), void* context) {
  if (!led || pieces > SharedLoop::most_pieces) return false;
  led->run(count, owners, pieces, body, context);
  return true;
}

int awake_index() {
  return index_in_loop;
}

void end_awake() {
  if (!led || index_in_loop >= 0) return;
  led->end();
  led = nullptr;
}

}  // namespace detail
}  // namespace hone::kernels
