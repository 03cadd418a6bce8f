// Ranks that are threads of one process: what several of them do together, without MPI and a launch.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>
#include <vector>

#include "comm/communicator.h"

namespace hone::test {

class ThreadRanks {
 public:
  explicit ThreadRanks(int size) : size_(size) {}

  // f(ranks) on every rank, each on a thread of its own; throws what the lowest rank threw.
  static void run(int size, const std::function<void(std::shared_ptr<Communicator>)>& f) {
    const auto all = std::make_shared<ThreadRanks>(size);
    std::vector<std::exception_ptr> thrown(static_cast<size_t>(size));
    std::vector<std::thread> threads;
    for (int rank = 0; rank < size; ++rank)
      threads.emplace_back([&, rank] {
        try {
          f(std::make_shared<Rank>(all, rank));
        } catch (...) {
          thrown[static_cast<size_t>(rank)] = std::current_exception();
        }
      });
    for (std::thread& thread : threads) thread.join();
    for (const std::exception_ptr& error : thrown)
      if (error) std::rethrow_exception(error);
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
    bool done() override {
      if (arrived) return true;
      const std::lock_guard lock(all->mutex_);
      auto& mail = all->mail_[line];
      const auto found = mail.find(number);
      if (found == mail.end()) return false;
      std::copy(found->second.begin(), found->second.end(), bytes.begin());
      mail.erase(found);
      return arrived = true;
    }
    std::shared_ptr<ThreadRanks> all;
    Line line;
    int64_t number;
    std::span<std::byte> bytes;
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
      if (!part) part = std::make_shared<ThreadRanks>(size);
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
      all_->changed_.wait(lock, [&] { return mail.contains(number); });
      const std::vector<std::byte> bytes = std::move(mail.at(number));
      mail.erase(number);
      return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }

    std::shared_ptr<ThreadRanks> all_;
    int rank_;
    int splits_ = 0;
  };

  int size_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Line, std::map<int64_t, std::vector<std::byte>>> mail_;
  std::map<Line, int64_t> sent_, asked_;
  std::map<std::pair<int, int>, std::shared_ptr<ThreadRanks>> parts_;  // by split and color
};

}  // namespace hone::test
