#include "comm/standard_input.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/stop.h"

namespace hone {
namespace {

bool standard_input_is_file() {
  struct stat status = {};
  return fstat(STDIN_FILENO, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0;
}

std::string read_all() {
  std::string all;
  std::string part(size_t{1} << 20, '\0');
  while (wait_to_read(STDIN_FILENO)) {
    const ssize_t count = read(STDIN_FILENO, part.data(), part.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw input_error("cannot read standard input: {}", std::strerror(errno));
    if (count == 0) break;
    all.append(part, 0, static_cast<size_t>(count));
  }
  check_stop();
  return all;
}

void become_standard_input(const std::string& text) {
  const int file = memfd_create("standard input", 0);
  if (file < 0) throw input_error("cannot keep standard input in memory: {}", std::strerror(errno));
  for (size_t at = 0; at < text.size();) {
    const ssize_t count = write(file, text.data() + at, text.size() - at);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) throw input_error("cannot keep standard input in memory: {}", std::strerror(errno));
    at += static_cast<size_t>(count);
  }
  lseek(file, 0, SEEK_SET);
  dup2(file, STDIN_FILENO);
  close(file);
}

}  // namespace

void share_standard_input(Communicator& ranks) {
  if (ranks.size() == 1) return;
  if (ranks.one_process()) {
    // A file is mapped from where it stands by each that reads it.
    agree(ranks, [&] {
      if (ranks.rank() == 0 && !standard_input_is_file()) become_standard_input(read_all());
    });
    return;
  }
  std::string text;
  const std::vector<std::string> sizes = gather_agreed(ranks, [&] {
    if (ranks.rank() == 0) text = read_all();
    return std::to_string(text.size());
  });
  text.resize(std::stoull(sizes.front()));
  wait(*ranks.broadcast(std::as_writable_bytes(std::span(text)), 0));
  agree(ranks, [&] { become_standard_input(text); });
}

}  // namespace hone
