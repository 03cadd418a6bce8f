#include "base/atomic_file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/memory_limit.h"
#include "base/stop.h"
#include "base/temporary.h"
#include "base/units.h"

namespace hone {
namespace {

namespace fs = std::filesystem;

// A rename is durable only once the directory itself is on the device.
void flush_directory(const std::string& path) {
  const int fd = open(directory_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

// Renames, but never over another file. Returns false and errno like rename().
bool move_if_absent(const std::string& from, const std::string& to) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return true;
  if (errno != EINVAL && errno != ENOSYS) return false;
  return link(from.c_str(), to.c_str()) == 0 && unlink(from.c_str()) == 0;  // a file system that lacks the above
}

// What stands in the way of replacing a target, or nothing.
std::optional<Error> obstacle(const Target& target, bool force) {
  if (target.name == "-") return usage_error("'-' is standard output; give a file name for the output");
  if (target.stream) return usage_error("'{}' is not a regular file; give a file name for the output", target.name);
  if (target.exists && !force) return usage_error("'{}' exists, and is replaced by force only", target.name);
  if (!writable_file(target))
    return input_error("cannot write '{}': it is read-only (mode {:04o}); make it writable or give another name",
                       target.name, target.mode);
  return std::nullopt;
}

void require_directory(const Target& target) {
  const std::string directory = directory_of(target.file);
  std::error_code code;
  if (!fs::is_directory(directory, code))
    throw input_error("cannot write '{}': there is no directory '{}'", target.name, directory);
  if (access(directory.c_str(), W_OK | X_OK) != 0)
    throw input_error("cannot write '{}': {}", target.name, std::strerror(errno));
  // Known by making one: access() says yes of /proc, and where all inodes are taken.
  unlink(make_temporary(target.file, target.name).c_str());
}

// Owner and mode of `path` for `temporary`, as far as the system permits: only root gives files away.
void take_after(const std::string& path, const std::string& temporary, mode_t more) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return;
  const bool given = chown(temporary.c_str(), status.st_uid, status.st_gid) == 0;
  const mode_t kept = given ? 07777 : 0777;  // not the rights of an owner that it does not have
  static_cast<void>(chmod(temporary.c_str(), (status.st_mode & kept) | more) == 0);
}

// dense.1.h5 for dense.h5.
std::string name_beside(const std::string& file, int number) {
  const fs::path path(file);
  const std::string rest = fmt::format(".{}{}", number, path.extension().string());
  const size_t longest = longest_name(directory_of(file));
  std::string stem = path.stem();
  if (stem.size() + rest.size() > longest) stem.resize(longest > rest.size() ? longest - rest.size() : 1);
  return path.parent_path() / (stem + rest);
}

}  // namespace

void require_writable(const std::string& name, bool force) {
  const Target target = resolve_target(name);
  if (const auto error = obstacle(target, force)) throw *error;
  require_directory(target);
}

void require_folder_writable(const std::string& folder) {
  std::error_code code;
  if (fs::is_directory(folder, code)) return;
  if (fs::exists(folder, code)) throw input_error("cannot write into '{}': it is no directory", folder);
  const fs::path path = fs::path(folder).lexically_normal();
  require_directory({folder, path.has_filename() ? path : path.parent_path()});  // "back/"
}

AtomicFile::AtomicFile(const std::string& target, bool force, IfTaken taken)
    : target_(target_by_now(target)), force_(force), taken_(taken) {
  if (taken == IfTaken::refuse) require_writable(target, force);
  clear_leftovers(target_.file);
  temporary_ = make_temporary(target_.file, target);
  if (force) take_after(target_.file, temporary_, S_IRUSR | S_IWUSR);  // before there is anything in it to read
}

AtomicFile::~AtomicFile() {
  if (!done_) unlink(temporary_.c_str());
}

std::string AtomicFile::commit() {
  const int fd = open(temporary_.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) throw input_error("cannot write '{}': {}", target(), std::strerror(errno));
  const StopLater whole;  // the writer flushed what is large
  const int error = flush_to_device(fd);
  close(fd);
  if (error) throw input_error("cannot write '{}': {}", target(), std::strerror(error));
  std::string path = target();
  if (const auto obstruction = move_to_target()) {
    if (taken_ == IfTaken::refuse) throw *obstruction;
    path = move_beside(*obstruction);
  }
  done_ = true;
  flush_directory(target_.file);
  return path;
}

std::optional<Error> AtomicFile::move_to_target() const {
  if (auto error = obstacle(target_by_now(target()), force_)) return error;
  if (force_) take_after(target_.file, temporary_, 0);
  // Without force a file that appeared meanwhile is not replaced.
  const bool moved =
      force_ ? rename(temporary_.c_str(), target_.file.c_str()) == 0 : move_if_absent(temporary_, target_.file);
  if (moved) return std::nullopt;
  if (errno == EEXIST) return usage_error("'{}' exists, and is replaced by force only", target());
  return input_error("cannot write '{}': {}", target(), std::strerror(errno));
}

std::string AtomicFile::move_beside(const Error& reason) {
  for (int number = 1; number < 10000; ++number) {
    const std::string path = name_beside(target_.file, number);
    if (move_if_absent(temporary_, path)) return path;
    if (errno != EEXIST) break;
  }
  done_ = true;  // better under a strange name than gone
  throw input_error("{}; what was to be written there is whole in '{}'", reason.what(), temporary_);
}

// A system that waits for a whole file at once answers no signal meanwhile.
int flush_to_device(int fd) {
  constexpr off_t part = off_t{64} << 20;
  const off_t end = lseek(fd, 0, SEEK_END);
  for (off_t begin = 0; begin < end; begin += part) {
    check_stop();
    constexpr unsigned all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    if (sync_file_range(fd, begin, part, all) != 0) break;  // not every file system has it
  }
  return fsync(fd) == 0 ? 0 : errno;
}

std::string read_text_file(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) throw input_error("cannot read '{}': {}", path, std::strerror(EISDIR));
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const int error = errno;
  check_stop();  // which ends the wait for a pipe's writer
  if (fd < 0) throw input_error("cannot read '{}': {}", path, std::strerror(error));
  const std::shared_ptr<void> closes(nullptr, [fd](void*) { close(fd); });
  return read_to_end(fd, fmt::format("'{}'", path));
}

std::string read_to_end(int fd, const std::string& name) {
  std::string text;
  size_t used = 0;
  for (;;) {
    if (text.size() - used < (size_t{1} << 16)) {
      const size_t size = std::max<size_t>(size_t{1} << 18, 2 * text.size());
      if (const auto bytes = static_cast<double>(size); bytes > always_there && bytes > memory_limit().bytes)
        throw input_error("cannot read {}: it has more than {}, and no more memory is free; a device may have no end",
                          name, format_bytes(static_cast<double>(used)));
      text.resize(size);
    }
    const ssize_t got = read(fd, text.data() + used, text.size() - used);
    check_stop();
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw input_error("cannot read {}: {}", name, std::strerror(errno));
    if (got == 0) break;
    used += static_cast<size_t>(got);
  }
  text.resize(used);
  text.shrink_to_fit();
  return text;
}

void write_text_file(const std::string& path, const std::string& text, bool force) {
  AtomicFile file(path, force);
  {
    std::ofstream stream(file.temporary(), std::ios::binary);
    stream << text;
    stream.flush();
    if (!stream) throw input_error("cannot write '{}': {}", path, std::strerror(errno));
  }
  file.commit();
}

namespace {

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    if (!context_ || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1)
      throw internal_error("SHA-256 is not available");
  }
  void add(const void* data, size_t bytes) { EVP_DigestUpdate(context_.get(), data, bytes); }
  std::string hex() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
    unsigned length = 0;
    EVP_DigestFinal_ex(context_.get(), digest.data(), &length);
    std::string text;
    for (unsigned i = 0; i < length; ++i) text += fmt::format("{:02x}", digest[i]);
    return text;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace

std::string sha256_of_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw input_error("cannot read '{}': {}", path, std::strerror(errno));
  Sha256 sha256;
  std::vector<char> block(1 << 20);
  while (file.read(block.data(), static_cast<std::streamsize>(block.size())), file.gcount() > 0) {
    check_stop();
    sha256.add(block.data(), static_cast<size_t>(file.gcount()));
  }
  if (file.bad()) throw input_error("cannot read '{}': {}", path, std::strerror(errno));
  return sha256.hex();
}

std::string sha256_of(std::string_view bytes) {
  Sha256 sha256;
  sha256.add(bytes.data(), bytes.size());
  return sha256.hex();
}

}  // namespace hone
