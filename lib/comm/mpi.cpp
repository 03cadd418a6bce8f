// Ranks of an MPI launch. The one place that knows MPI, by its C interface.
#ifdef HONE_MPI
#define OMPI_SKIP_MPICXX 1   // Open MPI's C++ bindings, which MPI 3 has left behind, do not compile without warnings
#define MPICH_SKIP_MPICXX 1  // and MPICH's
#include <mpi.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "base/clock.h"
#include "base/error.h"
#include "comm/communicator.h"
#include "comm/launch.h"

namespace hone {

#ifdef HONE_MPI
namespace {

// MPI's own errors end all ranks (its default): none of ours is left waiting, and no call returns one.
class InFlight : public Pending {
 public:
  explicit InFlight(std::vector<MPI_Request> requests) : requests_(std::move(requests)) {}
  bool done() override {
    int flag = 0;
    MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &flag, MPI_STATUSES_IGNORE);
    return flag != 0;
  }

 private:
  std::vector<MPI_Request> requests_;
};

// MPI counts in int: what is longer goes in several parts.
template <class F>
std::unique_ptr<Pending> in_parts(size_t bytes, F&& begin) {
  constexpr size_t most = size_t{1} << 30;
  std::vector<MPI_Request> requests;
  for (size_t at = 0; at < bytes; at += most) {
    requests.emplace_back();
    begin(at, static_cast<int>(std::min(most, bytes - at)), &requests.back());
  }
  return std::make_unique<InFlight>(std::move(requests));
}

MPI_Comm world() {
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  MPI_Comm all = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &all);
  return all;
}

// Its name and version, the beginning of what it says of itself: "Open MPI v4.1.4", "MPICH Version: 4.0.2".
std::string library() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string_view all(text, static_cast<size_t>(length));
  std::string name(all.substr(0, all.find_first_of(",\n")));
  std::ranges::replace(name, '\t', ' ');
  return name;
}

class Ranks : public Communicator {
 public:
  // `all` lives as long as MPI. Of a part of the launch `leaving` is none.
  Ranks(MPI_Comm all, MPI_Comm leaving) : all_(all), leaving_(leaving) {
    MPI_Comm_rank(all_, &rank_);
    MPI_Comm_size(all_, &size_);
  }
  static std::shared_ptr<Communicator> of_launch(const Launch& launched) {
    const MPI_Comm all = world();
    int found = 0;
    MPI_Comm_size(all, &found);
    if (found != launched.ranks) {  // each would take itself for all there is, and replace the others' files
      MPI_Finalize();
      throw usage_error(
          "{} ranks were launched ({}), but this build's MPI ({}) sees {} of them; start them by its own mpirun, or "
          "build with the launcher's MPI",
          launched.ranks, launched.said_by, library(), found);
    }
    MPI_Comm leaving = MPI_COMM_NULL;
    MPI_Comm_dup(MPI_COMM_WORLD, &leaving);
    return std::make_shared<Ranks>(all, leaving);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::vector<std::string> gather(std::string_view mine) override { return gather(mine, all_); }

  std::unique_ptr<Pending> broadcast(std::span<std::byte> bytes, int root) override {
    return in_parts(bytes.size(), [&](size_t at, int count, MPI_Request* request) {
      MPI_Ibcast(bytes.data() + at, count, MPI_BYTE, root, all_, request);
    });
  }

  std::unique_ptr<Pending> send(std::span<const std::byte> bytes, int to) override {
    return in_parts(bytes.size(), [&](size_t at, int count, MPI_Request* request) {
      MPI_Isend(bytes.data() + at, count, MPI_BYTE, to, 0, all_, request);
    });
  }

  std::unique_ptr<Pending> receive(std::span<std::byte> bytes, int from) override {
    return in_parts(bytes.size(), [&](size_t at, int count, MPI_Request* request) {
      MPI_Irecv(bytes.data() + at, count, MPI_BYTE, from, 0, all_, request);
    });
  }

  std::shared_ptr<Communicator> split(int color) override {
    MPI_Comm part = MPI_COMM_NULL;
    MPI_Comm_split(all_, color, rank_, &part);
    return std::make_shared<Ranks>(part, MPI_COMM_NULL);
  }

  int leave(int status, const std::string& message, const std::function<void(const std::string&)>& say) override {
    if (leaving_ == MPI_COMM_NULL) throw internal_error("a part of the ranks cannot leave alone");
    // A communicator of its own: others may be in the middle of something else, and then never come here.
    MPI_Request arrived;
    MPI_Ibarrier(leaving_, &arrived);
    InFlight all_here({arrived});
    if (status != 0) {
      constexpr double patience = 4;  // seconds
      for (const Stopwatch waited; !all_here.done();) {
        if (waited.seconds() < patience) continue;
        say(message);
        MPI_Abort(MPI_COMM_WORLD, status);
      }
    }
    wait(all_here);
    int agreed = 0;
    for (const std::string& text : gather(fmt::format("{} {}", status, message), leaving_)) {
      agreed = std::atoi(text.c_str());
      if (agreed == 0) continue;
      if (rank_ == 0) say(text.substr(text.find(' ') + 1));
      break;
    }
    // Nobody leaves before it is said: a launcher ends the others as soon as one has failed.
    gather("", leaving_);
    MPI_Finalize();
    return agreed;
  }

 private:
  std::vector<std::string> gather(std::string_view mine, MPI_Comm over) const {
    const auto ranks = static_cast<size_t>(size_);
    std::vector<int> lengths(ranks), begins(ranks);
    const int length = static_cast<int>(mine.size());
    finish(
        [&](MPI_Request* request) { MPI_Iallgather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, over, request); });
    std::exclusive_scan(lengths.begin(), lengths.end(), begins.begin(), 0);
    std::string together(static_cast<size_t>(begins.back() + lengths.back()), '\0');
    finish([&](MPI_Request* request) {
      MPI_Iallgatherv(mine.data(), length, MPI_CHAR, together.data(), lengths.data(), begins.data(), MPI_CHAR, over,
                      request);
    });
    std::vector<std::string> all;
    for (size_t i = 0; i < ranks; ++i)
      all.push_back(together.substr(static_cast<size_t>(begins[i]), static_cast<size_t>(lengths[i])));
    return all;
  }

  template <class F>
  static void finish(F&& begin) {
    MPI_Request request;
    begin(&request);
    InFlight flight({request});
    wait(flight);
  }

  MPI_Comm all_ = MPI_COMM_NULL, leaving_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1;
};

}  // namespace
#endif

std::shared_ptr<Communicator> launched_ranks() {
  const Launch launched = launch();
  if (launched.ranks == 1) return alone();
#ifdef HONE_MPI
  return Ranks::of_launch(launched);
#else
  throw usage_error(
      "{} ranks were launched ({}), but this build has no MPI, and they would replace each other's files; install "
      "libopenmpi-dev and build again, or start one process",
      launched.ranks, launched.said_by);
#endif
}

}  // namespace hone
