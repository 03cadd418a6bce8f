#include "base/atomic_file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <vector>

#include "base/error.h"

namespace hone {
namespace {

namespace fs = std::filesystem;

std::string directory_of(const std::string& path) {
  const auto parent = fs::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

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

}  // namespace

void require_writable(const std::string& target, bool force) {
  std::error_code code;
  const auto status = fs::status(target, code);
  if (fs::is_directory(status)) throw usage_error("'{}' is a directory; give a file name for the output", target);
  // Renaming would put a file in the place of a device or a pipe.
  if (fs::exists(status) && !fs::is_regular_file(status))
    throw usage_error("'{}' is not a regular file; give a file name for the output", target);
  if (fs::exists(status) && !force) throw usage_error("'{}' exists; add --force to replace it", target);
  const std::string directory = directory_of(target);
  if (!fs::is_directory(directory, code))
    throw input_error("cannot write '{}': there is no directory '{}'", target, directory);
  if (access(directory.c_str(), W_OK) != 0) throw input_error("cannot write '{}': {}", target, std::strerror(errno));
}

AtomicFile::AtomicFile(std::string target, bool force) : target_(std::move(target)), force_(force) {
  require_writable(target_, force_);
  temporary_ = fmt::format("{}.tmp.{}", target_, getpid());
}

AtomicFile::~AtomicFile() {
  if (!done_) unlink(temporary_.c_str());
}

void AtomicFile::commit() {
  const int fd = open(temporary_.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) throw input_error("cannot write '{}': {}", target_, std::strerror(errno));
  const bool flushed = fsync(fd) == 0;
  const int reason = errno;
  close(fd);
  if (!flushed) throw input_error("cannot write '{}': {}", target_, std::strerror(reason));
  // Without --force a file that appeared meanwhile is not replaced.
  const bool moved = force_ ? rename(temporary_.c_str(), target_.c_str()) == 0 : move_if_absent(temporary_, target_);
  if (!moved) {
    if (errno == EEXIST) throw usage_error("'{}' exists; add --force to replace it", target_);
    throw input_error("cannot write '{}': {}", target_, std::strerror(errno));
  }
  done_ = true;
  flush_directory(target_);
}

std::string read_text_file(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) throw input_error("cannot read '{}': {}", path, std::strerror(EISDIR));
  std::ifstream file(path, std::ios::binary);
  if (!file) throw input_error("cannot read '{}': {}", path, std::strerror(errno));
  std::ostringstream text;
  text << file.rdbuf();
  if (file.bad() || (text.fail() && !text.str().empty()))
    throw input_error("cannot read '{}': {}", path, std::strerror(errno));
  return text.str();
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

std::string sha256_of_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw input_error("cannot read '{}': {}", path, std::strerror(errno));
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  if (!context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1)
    throw internal_error("SHA-256 is not available");
  std::vector<char> block(1 << 20);
  while (file.read(block.data(), static_cast<std::streamsize>(block.size())), file.gcount() > 0)
    EVP_DigestUpdate(context.get(), block.data(), static_cast<size_t>(file.gcount()));
  if (file.bad()) throw input_error("cannot read '{}': {}", path, std::strerror(errno));
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned length = 0;
  EVP_DigestFinal_ex(context.get(), digest.data(), &length);
  std::string hex;
  for (unsigned i = 0; i < length; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

}  // namespace hone
