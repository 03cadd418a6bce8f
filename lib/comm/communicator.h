// Ranks that work on one thing together: this process alone, the processes of an MPI launch, or threads of this one
// (comm/thread_ranks.h).
//
// A communicator is handed down to who needs it; nothing here is global. All calls that say "on every rank" must be
// made by every rank, in one order. Who waits leaves the processor to others, so that ranks may share cores.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hone {

// Something that is on its way. The bytes that it reads or writes must stay until it is done.
class Pending {
 public:
  virtual ~Pending() = default;
  virtual bool done() = 0;  // moves it along, too
  virtual void wait();      // until it is done
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;                       // of this process or thread, from 0
  virtual int size() const = 0;                       // ranks
  virtual bool one_process() const { return false; }  // whether all are threads of this one, which share what it has

  // On every rank: what each of them gave, by rank.
  virtual std::vector<std::string> gather(std::string_view mine) = 0;
  // On every rank: the bytes of rank `root` come into those of all others.
  virtual std::unique_ptr<Pending> broadcast(std::span<std::byte> bytes, int root) = 0;
  // Messages from one rank to another arrive in the order in which they were sent.
  virtual std::unique_ptr<Pending> send(std::span<const std::byte> bytes, int to) = 0;
  virtual std::unique_ptr<Pending> receive(std::span<std::byte> bytes, int from) = 0;

  // On every rank: a communicator of those that gave the same color, in the order of their ranks here. Not for leave().
  virtual std::shared_ptr<Communicator> split(int color) = 0;

  // On every rank, as the last call: with what status this one ends, and why where that is no success. Returns the
  // status of the lowest rank that failed, which all end with; rank 0 has then said its message by `say`. Where another
  // rank does not come to its end within seconds, because it waits for this one, a failure says its own and ends all of
  // them; it does not return then.
  virtual int leave(int status, const std::string& message, const std::function<void(const std::string&)>& say) = 0;
};

void wait(Pending& pending);
void wait(std::span<const std::unique_ptr<Pending>> all);

// One process. It has nobody to send to.
std::shared_ptr<Communicator> alone();

// The ranks that this process was launched with (launch()), or alone(). Error(usage) where they are several and this
// build has no MPI. Call it once.
std::shared_ptr<Communicator> launched_ranks();

bool built_with_mpi();

// On every rank: f(). Where it failed on some, all throw what the lowest of them threw: RouterError or another
// Error of its kind, Stopped.
void agree(Communicator& ranks, const std::function<void()>& f);
// The same, and what each of them returned, by rank.
std::vector<std::string> gather_agreed(Communicator& ranks, const std::function<std::string()>& f);

}  // namespace hone
