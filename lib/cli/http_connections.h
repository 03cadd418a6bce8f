// Connections of a server over HTTP, with bounds of how many there are, and of the time and the bytes that a request may
// take before it is whole.                                                                                 cpp-httplib
#pragma once

#include <httplib.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>

namespace hone::cli {

struct ConnectionLimits {
  int64_t connections = 256;  // that are served at once
  int64_t header_bytes = 64 << 10;
  int64_t body_bytes = 4 << 20;  // as they are sent: with what frames their chunks
  double idle_seconds = 2;       // before a request's first byte
  double request_seconds = 30;   // from its first byte to its last
  double write_seconds = 10;     // of one piece of an answer: who reads more slowly is dropped
};

class Connection;

// The library reads lines of any length, waits for each byte anew, and serves whoever is among the first: here each
// connection is a stream that ends where a bound is reached. Its loop over requests is this one's.
class BoundedServer : public httplib::Server {
 public:
  explicit BoundedServer(const ConnectionLimits& limits);
  // Listens no more. Who is still sending a request is cut off at once, who gets an answer after that many seconds.
  void end(double seconds);

  // Of the connection that the calling thread serves.
  static bool beyond();         // `connections` others are served already: say so
  static bool late();           // the request was not whole in time
  static bool large();          // it has more bytes than it may
  static bool alive();          // whoever asked is still there
  static void request_whole();  // nothing more is read of it
  static void close_after();    // the answer: something of the request was not read

 private:
  bool process_and_close_socket(socket_t socket) override;

  const ConnectionLimits limits_;
  std::atomic<int64_t> open_ = 0;
  std::atomic<bool> ending_ = false;
  std::mutex mutex_;
  std::map<socket_t, Connection*> connections_;
};

}  // namespace hone::cli
