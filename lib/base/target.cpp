#include "base/target.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/error.h"

namespace hone {
namespace {

namespace fs = std::filesystem;

constexpr int most_links = 40;  // as Linux

// N for /dev/fd/N by any name, or -1. Its link says what the descriptor is open on; opening that anew would start at
// the beginning of a file, and replacing it would take the file from under the descriptor.
int descriptor_of(const std::string& path) {
  const std::string name = fs::path(path).filename();
  if (name.empty() || name.size() > 8 ||
      !std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; }))
    return -1;
  std::error_code code;
  const fs::path open = fs::canonical("/proc/self/fd", code), parent = fs::canonical(directory_of(path), code);
  return !code && open == parent ? std::stoi(name) : -1;
}

void follow_links(Target& target) {
  for (int links = 0;; ++links) {
    target.descriptor = descriptor_of(target.file);
    if (target.descriptor >= 0) return;
    std::error_code code;
    const fs::path next = fs::read_symlink(target.file, code);
    if (code) return;  // no link
    if (links == most_links) throw input_error("cannot write '{}': {}", target.name, std::strerror(ELOOP));
    target.file = next.is_absolute() ? next.string() : (fs::path(target.file).parent_path() / next).string();
  }
}

void require_open_for_writing(const Target& target) {
  const int flags = fcntl(target.descriptor, F_GETFL);
  if (flags < 0) throw input_error("cannot write '{}': {}", target.name, std::strerror(errno));
  if ((flags & O_ACCMODE) == O_RDONLY)
    throw input_error("cannot write {}: it is closed, or open for reading only",
                      target.name == "-" ? "standard output" : fmt::format("'{}'", target.name));
}

// What two paths are compared by.
struct Identity {
  bool comparable = false;  // a file, or a name where one may come to be
  fs::path path;
  bool exists = false;
  dev_t device = 0;
  ino_t inode = 0;

  bool operator==(const Identity& other) const {
    return comparable && other.comparable &&
           (path == other.path || (exists && other.exists && device == other.device && inode == other.inode));
  }
};

Identity identity_of(const std::string& path) {
  Identity id;
  if (path.empty() || path == "-") return id;
  Target target{.name = path, .file = path};
  follow_links(target);
  if (target.descriptor >= 0) return id;
  struct stat status;
  id.exists = stat(target.file.c_str(), &status) == 0;
  id.comparable = !id.exists || S_ISREG(status.st_mode) || S_ISDIR(status.st_mode);
  if (id.exists) id.device = status.st_dev, id.inode = status.st_ino;
  std::error_code code;
  id.path = fs::weakly_canonical(directory_of(target.file), code) / fs::path(target.file).filename();
  return id;
}

}  // namespace

std::string directory_of(const std::string& path) {
  const auto parent = fs::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

Target resolve_target(const std::string& path) {
  Target target{.name = path, .file = path};
  if (path == "-")
    target.descriptor = STDOUT_FILENO;
  else
    follow_links(target);
  if (target.descriptor >= 0) {
    require_open_for_writing(target);
    target.stream = target.exists = true;
    return target;
  }
  struct stat status;
  if (stat(target.file.c_str(), &status) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return target;
    throw input_error("cannot write '{}': {}", path, std::strerror(errno));
  }
  if (S_ISDIR(status.st_mode)) throw usage_error("'{}' is a directory; give a file name for the output", path);
  if (S_ISBLK(status.st_mode) || S_ISSOCK(status.st_mode))
    throw usage_error("'{}' is not a file or a stream; give a file name for the output", path);
  target.exists = true;
  target.stream = !S_ISREG(status.st_mode);
  target.mode = status.st_mode & 07777;
  return target;
}

Target target_by_now(const std::string& path) {
  try {
    return resolve_target(path);
  } catch (const Error&) {
    return {.name = path, .file = path, .exists = true};
  }
}

bool writable_file(const Target& target) {
  return !target.exists || ((target.mode & 0222) != 0 && access(target.file.c_str(), W_OK) == 0);
}

void require_distinct(const std::vector<NamedPath>& outputs, const std::vector<NamedPath>& inputs) {
  std::vector<Identity> ids;
  for (const auto& [option, path] : outputs) ids.push_back(identity_of(path));
  for (size_t i = 0; i < outputs.size(); ++i) {
    for (size_t j = 0; j < i; ++j)
      if (ids[i] == ids[j])
        throw usage_error("{} and {} are the same file, '{}'; give each a name of its own", outputs[j].first,
                          outputs[i].first, outputs[i].second);
    for (const auto& [option, path] : inputs)
      if (ids[i] == identity_of(path))
        throw usage_error("{} '{}' would replace what {} reads; give another name", outputs[i].first, outputs[i].second,
                          option);
  }
}

}  // namespace hone
