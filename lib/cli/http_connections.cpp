#include "cli/http_connections.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

#include "base/clock.h"

namespace hone::cli {
namespace {

constexpr int most_requests = 1000;  // of one connection
constexpr int refusing_threads = 16;

thread_local Connection* served_connection = nullptr;

// Whether the socket is ready for it within so many seconds.
bool socket_ready(int socket, int16_t what, double seconds) {
  const double until = seconds_now() + seconds;
  for (;;) {
    pollfd one = {socket, what, 0};
    const double left = std::max(0.0, until - seconds_now());
    const int found = ::poll(&one, 1, static_cast<int>(std::ceil(left * 1e3)));
    if (found >= 0 || errno != EINTR) return found > 0;
  }
}

void address_of(const sockaddr_storage& address, socklen_t size, std::string& ip, int& port) {
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> service{};
  if (::getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host.data(), host.size(), service.data(),
                    service.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return;
  ip = host.data();
  port = std::atoi(service.data());
}

}  // namespace

class Connection : public httplib::Stream {
 public:
  Connection(int socket, const ConnectionLimits& limits, bool beyond)
      : socket_(socket), limits_(limits), beyond_(beyond) {}

  // Whether another request begins.
  bool next() {
    whole_ = late_ = large_ = false;
    left_ = limits_.header_bytes;
    if (begin_ == end_ && !socket_ready(socket_, POLLIN, limits_.idle_seconds)) return false;
    began_ = seconds_now();
    return true;
  }
  void headers_whole() { left_ = limits_.body_bytes; }
  void request_whole() { whole_ = true; }
  void close_after() { closing_ = true; }
  // Bytes that nobody has read when a socket is closed make the system take the answer back: they are read, some time,
  // and forgotten.
  void linger() {
    whole_ = false;
    if (!closing_) return;
    constexpr double seconds = 2;
    constexpr int64_t most = 64 << 20;
    ::shutdown(socket_, SHUT_WR);
    const Stopwatch watch;
    for (int64_t bytes = 0; bytes < most && socket_ready(socket_, POLLIN, seconds - watch.seconds());) {
      const ssize_t count = ::recv(socket_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
      if (count <= 0) return;
      bytes += count;
    }
  }

  bool beyond() const { return beyond_; }
  bool late() const { return late_; }
  bool large() const { return large_; }
  bool closing() const { return closing_; }
  bool whole() const { return whole_; }  // asked by other threads, too
  bool alive() const {
    char byte = 0;
    const ssize_t count = ::recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return count > 0 || (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR));
  }

  // As httplib::Stream has them in one version or another: none says `override`.
  bool is_readable() const { return begin_ < end_ || socket_ready(socket_, POLLIN, std::max(0.0, seconds_left())); }
  bool is_writable() const { return socket_ready(socket_, POLLOUT, limits_.write_seconds) && alive(); }
  bool wait_readable() const { return is_readable(); }
  bool wait_writable() const { return is_writable(); }
  time_t duration() const { return static_cast<time_t>((seconds_now() - began_) * 1e3); }
  socket_t socket() const { return socket_; }

  ssize_t read(char* to, size_t size) {
    if (begin_ == end_) {
      if (left_ == 0) large_ = true;
      const double seconds = seconds_left();
      if (!large_ && (seconds <= 0 || !socket_ready(socket_, POLLIN, seconds))) late_ = true;
      if (large_ || late_) return -1;
      const ssize_t count = ::recv(socket_, buffer_.data(),
                                   static_cast<size_t>(std::min(left_, static_cast<int64_t>(buffer_.size()))), 0);
      if (count <= 0) return count;
      left_ -= count;
      begin_ = 0;
      end_ = static_cast<size_t>(count);
    }
    const size_t count = std::min(size, end_ - begin_);
    std::memcpy(to, buffer_.data() + begin_, count);
    begin_ += count;
    return static_cast<ssize_t>(count);
  }

  // All of it: not every caller would write the rest.
  ssize_t write(const char* from, size_t size) {
    for (size_t done = 0; done < size;) {
      if (!socket_ready(socket_, POLLOUT, limits_.write_seconds)) return -1;
      const ssize_t count = ::send(socket_, from + done, size - done, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) continue;
      if (count <= 0) return -1;
      done += static_cast<size_t>(count);
    }
    return static_cast<ssize_t>(size);
  }

  void get_remote_ip_and_port(std::string& ip, int& port) const {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (::getpeername(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0) address_of(address, size, ip, port);
  }
  void get_local_ip_and_port(std::string& ip, int& port) const {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0) address_of(address, size, ip, port);
  }

 private:
  // Who is only told that there is no place does not keep the next one waiting.
  double seconds_left() const {
    return began_ + (beyond_ ? std::min(limits_.idle_seconds, limits_.request_seconds) : limits_.request_seconds) -
           seconds_now();
  }

  const int socket_;
  const ConnectionLimits& limits_;
  const bool beyond_;
  std::array<char, 1 << 14> buffer_{};
  size_t begin_ = 0, end_ = 0;  // of what was received and not read
  int64_t left_ = 0;            // bytes that may still be received
  double began_ = 0;
  bool late_ = false, large_ = false, closing_ = false;
  std::atomic<bool> whole_ = false;
};

BoundedServer::BoundedServer(const ConnectionLimits& limits) : limits_(limits) {
  const auto threads = static_cast<size_t>(limits.connections) + refusing_threads;
  new_task_queue = [threads] { return new httplib::ThreadPool(threads); };
  // What answers say of the connection: who believes that it stays open for longer sends a request to nobody.
  set_keep_alive_timeout(static_cast<time_t>(limits.idle_seconds));
  set_keep_alive_max_count(most_requests);
}

namespace {

// The function of the library's that reads a request and writes its answer: later versions want addresses, too.
template <class Served, class Setup>
bool process_with(const Served& serve, Connection& connection, bool last, bool& closed, const Setup& setup) {
  if constexpr (requires { serve(connection, last, closed, setup); }) {
    return serve(connection, last, closed, setup);
  } else {
    std::string there, here;
    int port_there = 0, port_here = 0;
    connection.get_remote_ip_and_port(there, port_there);
    connection.get_local_ip_and_port(here, port_here);
    return serve(connection, there, port_there, here, port_here, last, closed, setup);
  }
}

}  // namespace

bool BoundedServer::process_and_close_socket(socket_t socket) {
  Connection connection(socket, limits_, ++open_ > limits_.connections);
  {
    const std::lock_guard lock(mutex_);
    connections_[socket] = &connection;
  }
  served_connection = &connection;
  const std::function<void(httplib::Request&)> setup = [&](httplib::Request& request) {
    connection.headers_whole();
    if (request.method == "GET" || request.method == "HEAD") connection.request_whole();
  };
  const auto serve = [this](auto&&... arguments) -> decltype(process_request(arguments...)) {
    return process_request(arguments...);
  };
  for (int count = 1; !ending_ && connection.next(); ++count) {
    bool closed = false;
    const bool last = connection.beyond() || count == most_requests;
    if (!process_with(serve, connection, last, closed, setup) || closed || last || connection.closing()) break;
  }
  served_connection = nullptr;
  connection.linger();
  {
    const std::lock_guard lock(mutex_);
    connections_.erase(socket);  // before its number can become another's
  }
  ::shutdown(socket, SHUT_RDWR);
  ::close(socket);
  --open_;
  return true;
}

void BoundedServer::end(double seconds) {
  ending_ = true;
  const Stopwatch watch;
  // The library ends every answer once it is stopped: those that are on their way come first.
  for (bool wait = true; wait;) {
    {
      const std::lock_guard lock(mutex_);
      wait = false;
      for (const auto& [socket, connection] : connections_)
        if (connection->whole())
          wait = true;
        else
          ::shutdown(socket, SHUT_RD);
    }
    wait = wait && watch.seconds() < seconds;
    if (wait) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  stop();
  const std::lock_guard lock(mutex_);
  for (const auto& [socket, connection] : connections_) ::shutdown(socket, connection->whole() ? SHUT_RDWR : SHUT_RD);
}

bool BoundedServer::beyond() {
  return served_connection && served_connection->beyond();
}
bool BoundedServer::late() {
  return served_connection && served_connection->late();
}
bool BoundedServer::large() {
  return served_connection && served_connection->large();
}
bool BoundedServer::alive() {
  return served_connection && served_connection->alive();
}
void BoundedServer::request_whole() {
  if (served_connection) served_connection->request_whole();
}
void BoundedServer::close_after() {
  if (served_connection) served_connection->close_after();
}

}  // namespace hone::cli
