#include "comm/thread_ranks.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "base/bed.h"
#include "base/error.h"

namespace hone {
namespace {

using std::chrono::microseconds;

// Messages up to so many bytes are sent as copies, and nobody waits until they are taken.
constexpr size_t small_message = 4096;
constexpr microseconds yielding(1000);

// Of a rank that waited for one that failed: what that one threw is what all end with.
struct OtherRankFailed : std::runtime_error {
  OtherRankFailed() : std::runtime_error("another rank has failed") {}
};

// All threads, by number: where each sleeps, and whether one of them has failed.
struct World {
  explicit World(int size) : beds(static_cast<size_t>(size)), look(size <= processors() ? patience : impatience) {}

  // Until `ready()`, in the thread of this number. Throws where one has failed and it is not.
  template <class F>
  void wait(int thread, F&& ready) {
    const auto over = [&] { return ready() || failed.load(std::memory_order_seq_cst); };
    if (!spin(look, over) && !yielded(over))
      while (!over()) beds[static_cast<size_t>(thread)].sleep(over);
    if (!ready()) throw OtherRankFailed();
  }

  // Whether this is the first that does.
  bool fail() {
    const bool first = !failed.exchange(true, std::memory_order_seq_cst);
    for (Bed& bed : beds) bed.wake();
    return first;
  }

  std::deque<Bed> beds;
  std::atomic<bool> failed{false};

 private:
  template <class F>
  static bool yielded(F&& over) {
    for (const auto end = std::chrono::steady_clock::now() + yielding; std::chrono::steady_clock::now() < end;) {
      if (over()) return true;
      std::this_thread::yield();
    }
    return false;
  }

  const microseconds look;
};

// One side of a message. Who comes second copies the bytes, and tells the first.
struct Post {
  enum State { posted, copying, done, withdrawn };

  Post(std::span<std::byte> of, Bed* owner) : bytes(of), bed(owner) {}
  // Of bytes that need not stay. Nobody waits for it.
  explicit Post(std::span<const std::byte> of) : copy(of.begin(), of.end()), bytes(copy) {}

  bool is_done() const { return state.load(std::memory_order_seq_cst) == done; }
  void finish() {
    state.store(done, std::memory_order_seq_cst);
    if (bed) bed->wake();
  }
  // Before its bytes go: nobody touches them any more.
  void withdraw() {
    int expected = posted;
    if (state.compare_exchange_strong(expected, withdrawn)) return;
    while (state.load(std::memory_order_acquire) == copying) std::this_thread::yield();
  }

  std::vector<std::byte> copy;
  std::span<std::byte> bytes;
  Bed* bed = nullptr;
  std::atomic<int> state{posted};
};

using PostPtr = std::shared_ptr<Post>;

enum class Channel { message, broadcast };

// What comes to one rank.
class Mailbox {
 public:
  void send(int from, Channel channel, const PostPtr& post) { meet(from, channel, post, true); }
  void receive(int from, Channel channel, const PostPtr& post) { meet(from, channel, post, false); }

 private:
  // Sends, or receives, that are not met yet: the n-th of one kind meets the n-th of the other.
  struct Line {
    std::deque<PostPtr> waiting;
    bool sends = false;
  };

  void meet(int from, Channel channel, const PostPtr& post, bool sends) {
    PostPtr other;
    {
      const std::lock_guard lock(mutex_);
      Line& line = lines_[{from, channel}];
      if (line.waiting.empty() || line.sends == sends) {
        line.sends = sends;
        line.waiting.push_back(post);
        return;
      }
      other = std::move(line.waiting.front());
      line.waiting.pop_front();
    }
    int expected = Post::posted;  // withdrawn by a rank that failed: this one will find that out where it waits
    if (!other->state.compare_exchange_strong(expected, Post::copying)) return;
    const Post &source = sends ? *post : *other, &target = sends ? *other : *post;
    const bool fits = source.bytes.size() == target.bytes.size();
    if (fits && !source.bytes.empty()) std::memcpy(target.bytes.data(), source.bytes.data(), source.bytes.size());
    if (!fits) {
      other->state = Post::withdrawn;  // it waits until it hears that this rank failed
      throw internal_error("a message of {} bytes came where {} were expected", source.bytes.size(),
                           target.bytes.size());
    }
    other->finish();
    post->finish();
  }

  std::mutex mutex_;
  std::map<std::pair<int, Channel>, Line> lines_;
};

// Ranks of a communicator.
struct Group {
  Group(std::shared_ptr<World> of, std::vector<int> threads)
      : world(std::move(of)), members(std::move(threads)), boxes(members.size()) {
    for (auto& texts : gathered) texts.resize(members.size());
  }

  const std::shared_ptr<World> world;
  const std::vector<int> members;  // their numbers among all threads
  std::deque<Mailbox> boxes;       // by rank
  // Every second time the same texts: who comes to the next but one has left the last, as all others have the one before.
  std::array<std::vector<std::string>, 2> gathered;
  std::atomic<uint64_t> arrived{0};  // at all of them
  std::mutex mutex;
  std::map<std::pair<int, int>, std::shared_ptr<Group>> parts;  // by split and color
};

class Travelling : public Pending {
 public:
  Travelling(std::shared_ptr<World> world, int thread) : world_(std::move(world)), thread_(thread) {}
  // From here on it is withdrawn when this goes, also where what comes next throws.
  const PostPtr& add(PostPtr post) { return posts_.emplace_back(std::move(post)); }
  ~Travelling() override {
    for (const PostPtr& post : posts_) post->withdraw();
  }
  bool done() override {
    const bool all = here();
    if (!all && world_->failed && !here()) throw OtherRankFailed();
    return all;
  }
  void wait() override {
    world_->wait(thread_, [this] { return here(); });
  }

 private:
  bool here() const { return std::ranges::all_of(posts_, &Post::is_done); }

  std::shared_ptr<World> world_;
  int thread_;
  std::vector<PostPtr> posts_;
};

class ThreadRank : public Communicator {
 public:
  ThreadRank(std::shared_ptr<Group> group, int rank) : group_(std::move(group)), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(group_->members.size()); }
  bool one_process() const override { return true; }

  std::vector<std::string> gather(std::string_view mine) override {
    // Behind one that did not come about, this one would count its ranks as its own.
    if (group_->world->failed) throw OtherRankFailed();
    std::vector<std::string>& texts = group_->gathered[gathers_++ % 2];
    texts[static_cast<size_t>(rank_)] = mine;
    const uint64_t all = gathers_ * group_->members.size();
    if (group_->arrived.fetch_add(1, std::memory_order_seq_cst) + 1 == all) {
      for (const int thread : group_->members) bed(thread).wake();
    } else {
      group_->world->wait(thread(), [&] { return group_->arrived.load(std::memory_order_seq_cst) >= all; });
    }
    return texts;
  }

  std::unique_ptr<Pending> broadcast(std::span<std::byte> bytes, int root) override {
    if (root != rank_) return receive(bytes, root, Channel::broadcast);
    auto way = on_its_way();
    for (int to = 0; to < size(); ++to)
      if (to != rank_) put(bytes, to, Channel::broadcast, *way);
    return way;
  }

  std::unique_ptr<Pending> send(std::span<const std::byte> bytes, int to) override {
    auto way = on_its_way();
    put(bytes, to, Channel::message, *way);
    return way;
  }

  std::unique_ptr<Pending> receive(std::span<std::byte> bytes, int from) override {
    return receive(bytes, from, Channel::message);
  }

  std::shared_ptr<Communicator> split(int color) override {
    const std::vector<std::string> colors = gather(std::to_string(color));
    std::vector<int> threads;
    int place = 0;
    for (size_t rank = 0; rank < colors.size(); ++rank) {
      if (static_cast<int>(rank) == rank_) place = static_cast<int>(threads.size());
      if (colors[rank] == colors[static_cast<size_t>(rank_)]) threads.push_back(group_->members[rank]);
    }
    const std::lock_guard lock(group_->mutex);
    std::shared_ptr<Group>& part = group_->parts[{splits_++, color}];
    if (!part) part = std::make_shared<Group>(group_->world, std::move(threads));
    return std::make_shared<ThreadRank>(part, place);
  }

  int leave(int, const std::string&, const std::function<void(const std::string&)>&) override {
    throw internal_error("a rank that is a thread leaves by returning");
  }

 private:
  int thread() const { return group_->members[static_cast<size_t>(rank_)]; }
  Bed& bed(int thread) const { return group_->world->beds[static_cast<size_t>(thread)]; }
  Mailbox& box(int rank) const {
    if (rank < 0 || rank >= size()) throw internal_error("there is no rank {}", rank);
    return group_->boxes[static_cast<size_t>(rank)];
  }

  void put(std::span<const std::byte> bytes, int to, Channel channel, Travelling& way) const {
    if (bytes.size() <= small_message) return box(to).send(rank_, channel, std::make_shared<Post>(bytes));
    // Read alone, but a span of a kind for both sides is simpler.
    const std::span<std::byte> source(const_cast<std::byte*>(bytes.data()), bytes.size());
    box(to).send(rank_, channel, way.add(std::make_shared<Post>(source, &bed(thread()))));
  }

  std::unique_ptr<Pending> receive(std::span<std::byte> bytes, int from, Channel channel) const {
    if (from < 0 || from >= size()) throw internal_error("there is no rank {}", from);
    auto way = on_its_way();
    box(rank_).receive(from, channel, way->add(std::make_shared<Post>(bytes, &bed(thread()))));
    return way;
  }

  std::unique_ptr<Travelling> on_its_way() const { return std::make_unique<Travelling>(group_->world, thread()); }

  std::shared_ptr<Group> group_;
  int rank_;
  uint64_t gathers_ = 0;
  int splits_ = 0;
};

}  // namespace

void run_thread_ranks(int size, const std::function<void(const std::shared_ptr<Communicator>&)>& f) {
  const auto world = std::make_shared<World>(size);
  std::vector<int> numbers;
  for (int i = 0; i < size; ++i) numbers.push_back(i);
  const auto all = std::make_shared<Group>(world, std::move(numbers));
  std::exception_ptr thrown;
  const auto failed = [&] {
    if (world->fail()) thrown = std::current_exception();
  };
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(size));
  try {
    for (int rank = 0; rank < size; ++rank)
      threads.emplace_back([&, rank] {
        try {
          f(std::make_shared<ThreadRank>(all, rank));
        } catch (...) {
          failed();
        }
      });
  } catch (const std::exception&) {
    try {
      throw internal_error("this process may not have {} threads for ranks", size);
    } catch (...) {
      failed();
    }
  }
  for (std::thread& thread : threads) thread.join();
  if (thrown) std::rethrow_exception(thrown);
}

}  // namespace hone
