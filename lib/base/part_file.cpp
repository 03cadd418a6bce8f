#include "base/part_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/json.h"

namespace hone {

namespace {

std::string first_line(const nlohmann::json& of) {
  return of.dump() + "\n";
}

// A part that has nothing, or half its first line.
bool is_unbegun(const std::string& part, const nlohmann::json& of) {
  return first_line(of).starts_with(part) && !part.ends_with('\n');
}

}  // namespace

PartFile::PartFile(const std::string& path, const nlohmann::json& of, bool force) : part_(path + ".part") {
  open();
  try {
    require_writable(path, force);  // who had the part before may have finished
    const size_t kept = force ? 0 : read(of);
    if (::ftruncate(::fileno(file_.get()), static_cast<off_t>(kept)) != 0)
      throw input_error("cannot write '{}': {}", part_, std::strerror(errno));
    if (kept == 0) write(first_line(of));
  } catch (const Error&) {
    if (is_unbegun(read_text_file(part_), of)) ::unlink(part_.c_str());
    throw;
  }
}

// Where there are no locks, as on some file systems of networks, it goes on without one.
void PartFile::open() {
  for (;;) {
    const int descriptor = ::open(part_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (descriptor < 0) throw input_error("cannot write '{}': {}", part_, std::strerror(errno));
    file_.reset(::fdopen(descriptor, "a+"));
    if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
      throw usage_error("'{}' is being written by another run; wait for its end, or give another name", part_);
    // Who had it may have finished, and removed it, in between.
    struct stat mine {
    }, there{};
    if (::fstat(descriptor, &mine) == 0 && ::stat(part_.c_str(), &there) == 0 && mine.st_ino == there.st_ino &&
        mine.st_dev == there.st_dev)
      return;
  }
}

size_t PartFile::read(const nlohmann::json& of) {
  const std::string all = read_text_file(part_);
  if (is_unbegun(all, of)) return 0;
  const size_t first = std::min(all.find('\n'), all.size());
  if (const nlohmann::json written = parse_json(all.substr(0, first)); written.is_discarded() || written != of)
    throw input_error(
        "'{}' is of another input, model or other options; give what it was begun with, or have it begun anew", part_);
  size_t begin = first + 1;
  for (size_t end = 0; begin < all.size(); begin = end + 1) {
    end = all.find('\n', begin);
    if (end == std::string::npos) break;  // half a line
    found_.push_back(all.substr(begin, end - begin));
  }
  return begin;
}

void PartFile::write(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), file_.get()) != text.size() || std::fflush(file_.get()) != 0)
    throw input_error("cannot write '{}': {}", part_, std::strerror(errno));
}

void PartFile::put(const std::string& line) {
  write(line + "\n");
}

void PartFile::remove() {
  ::unlink(part_.c_str());
  file_.reset();
}

}  // namespace hone
