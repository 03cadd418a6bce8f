#include "comm/communicator.h"

#include <chrono>
#include <thread>

#include "base/clock.h"
#include "base/error.h"

namespace hone {
namespace {

class Alone : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::vector<std::string> gather(std::string_view mine) override { return {std::string(mine)}; }
  std::unique_ptr<Pending> broadcast(std::span<std::byte>, int root) override { return nobody(root); }
  std::unique_ptr<Pending> send(std::span<const std::byte>, int to) override { return nobody(to); }
  std::unique_ptr<Pending> receive(std::span<std::byte>, int from) override { return nobody(from); }
  std::shared_ptr<Communicator> split(int) override { return alone(); }
  int leave(int status, const std::string& message, const std::function<void(const std::string&)>& say) override {
    if (status != 0) say(message);
    return status;
  }

 private:
  struct Done : Pending {
    bool done() override { return true; }
  };
  static std::unique_ptr<Pending> nobody(int rank) {
    if (rank != 0) throw internal_error("there is no rank {}", rank);
    return std::make_unique<Done>();
  }
};

}  // namespace

// What is on its way moves along only while it is asked for, so that a rank sleeps only where it waits long: for others
// that compute. Before that it leaves the processor to whoever wants it.
void Pending::wait() {
  constexpr int turns = 1000;
  constexpr double long_wait = 0.2;  // seconds
  for (int i = 0; i < turns; ++i)
    if (done()) return;
  for (const Stopwatch waited; !done();)
    if (waited.seconds() < long_wait)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(20));
}

void wait(Pending& pending) {
  pending.wait();
}

void wait(std::span<const std::unique_ptr<Pending>> all) {
  for (const auto& pending : all) pending->wait();
}

std::shared_ptr<Communicator> alone() {
  static const std::shared_ptr<Communicator> one = std::make_shared<Alone>();
  return one;
}

// Not beside what calls MPI: a tool that only asks is linked, and loaded, without it.
bool built_with_mpi() {
#ifdef HONE_MPI
  return true;
#else
  return false;
#endif
}

}  // namespace hone
