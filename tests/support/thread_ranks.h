// Ranks that are threads of one process: what several of them do together, without MPI and a launch.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "comm/communicator.h"

namespace hone::test {

class ThreadRanks {
  using Failure = std::atomic<bool>;

 public:
  // Those of a part share the failure of the whole.
  explicit ThreadRanks(int size, std::shared_ptr<Failure> failure = std::make_shared<Failure>(false))
      : size_(size), failure_(std::move(failure)) {}

  // f(ranks) on every rank, each on a thread of its own; throws what the first that failed threw. The others, which
  // would wait for it for ever, then end where they wait.
  static void run(int size, const std::function<void(std::shared_ptr<Communicator>)>& f) {
    const auto all = std::make_shared<ThreadRanks>(size);
    std::exception_ptr thrown;
    std::vector<std::thread> threads;
    for (int rank = 0; rank < size; ++rank)
      threads.emplace_back([&, rank] {
        try {
          f(std::make_shared<Rank>(all, rank));
        } catch (...) {
          if (!all->failure_->exchange(true)) thrown = std::current_exception();
        }
      });
    for (std::thread& thread : threads) thread.join();
    if (thrown) std::rethrow_exception(thrown);
  }

 private:
  enum class Channel { message, broadcast, gather };
  using Line = std::tuple<int, int, Channel>;  // from, to, by what

  struct Sent : Pending {
    bool done() override { return true; }
  };

  // The n-th that was asked for is the n-th that was sent.
  struct Coming : Pending {
    Coming(std::shared_ptr<ThreadRanks> ranks, Line on, int64_t place, std::span<std::byte> into)
        : all(std::move(ranks)), line(on), number(place), bytes(into) {}
    // Who looks again waits a while: there are more ranks than processors, which they would take from each other.
    bool done() override {
      if (arrived) return true;
      std::unique_lock lock(all->mutex_);
      auto& mail = all->mail_[line];
      const auto here = [&] { return mail.contains(number); };
      if (++looks > 2) all->changed_.wait_for(lock, std::chrono::milliseconds(1), here);
      const auto found = mail.find(number);
      if (found == mail.end()) {
        all->check();
        return false;
      }
      std::copy(found->second.begin(), found->second.end(), bytes.begin());
      mail.erase(found);
      return arrived = true;
    }
    std::shared_ptr<ThreadRanks> all;
    Line line;
    int64_t number;
    std::span<std::byte> bytes;
    int looks = 0;
    bool arrived = false;
  };

  class Rank : public Communicator {
   public:
    Rank(std::shared_ptr<ThreadRanks> all, int rank) : all_(std::move(all)), rank_(rank) {}
    int rank() const override { return rank_; }
    int size() const override { return all_->size_; }

    std::vector<std::string> gather(std::string_view mine) override {
      std::vector<std::string> texts;
      for (int to = 0; to < size(); ++to) put({rank_, to, Channel::gather}, std::as_bytes(std::span(mine)));
      for (int from = 0; from < size(); ++from) texts.push_back(take_text({from, rank_, Channel::gather}));
      return texts;
    }

    std::unique_ptr<Pending> broadcast(std::span<std::byte> bytes, int root) override {
      if (root != rank_) return coming({root, rank_, Channel::broadcast}, bytes);
      for (int to = 0; to < size(); ++to)
        if (to != rank_) put({rank_, to, Channel::broadcast}, bytes);
      return std::make_unique<Sent>();
    }

    std::unique_ptr<Pending> send(std::span<const std::byte> bytes, int to) override {
      put({rank_, to, Channel::message}, bytes);
      return std::make_unique<Sent>();
    }

    std::unique_ptr<Pending> receive(std::span<std::byte> bytes, int from) override {
      return coming({from, rank_, Channel::message}, bytes);
    }

    std::shared_ptr<Communicator> split(int color) override {
      const std::vector<std::string> colors = gather(std::to_string(color));
      int size = 0, place = 0;
      for (int rank = 0; rank < all_->size_; ++rank) {
        if (colors[static_cast<size_t>(rank)] != std::to_string(color)) continue;
        if (rank == rank_) place = size;
        ++size;
      }
      const std::lock_guard lock(all_->mutex_);
      std::shared_ptr<ThreadRanks>& part = all_->parts_[{splits_++, color}];
      if (!part) part = std::make_shared<ThreadRanks>(size, all_->failure_);
      return std::make_shared<Rank>(part, place);
    }

    int leave(int status, const std::string&, const std::function<void(const std::string&)>&) override {
      return status;
    }

   private:
    void put(const Line& line, std::span<const std::byte> bytes) {
      const std::lock_guard lock(all_->mutex_);
      all_->mail_[line][all_->sent_[line]++] = {bytes.begin(), bytes.end()};
      all_->changed_.notify_all();
    }

    std::unique_ptr<Pending> coming(const Line& line, std::span<std::byte> bytes) {
      const std::lock_guard lock(all_->mutex_);
      return std::make_unique<Coming>(all_, line, all_->asked_[line]++, bytes);
    }

    std::string take_text(const Line& line) {
      std::unique_lock lock(all_->mutex_);
      const int64_t number = all_->asked_[line]++;
      auto& mail = all_->mail_[line];
      while (!mail.contains(number)) {
        all_->check();
        all_->changed_.wait_for(lock, std::chrono::milliseconds(20));
      }
      const std::vector<std::byte> bytes = std::move(mail.at(number));
      mail.erase(number);
      return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }

    std::shared_ptr<ThreadRanks> all_;
    int rank_;
    int splits_ = 0;
  };

  void check() const {
    if (*failure_) throw std::runtime_error("another rank has failed");
  }

  int size_;
  std::shared_ptr<Failure> failure_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Line, std::map<int64_t, std::vector<std::byte>>> mail_;
  std::map<Line, int64_t> sent_, asked_;
  std::map<std::pair<int, int>, std::shared_ptr<ThreadRanks>> parts_;  // by split and color
};

}  // namespace hone::test
