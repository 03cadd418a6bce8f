#include "dataset/text_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/spelling.h"
#include "base/stop.h"

namespace hone {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ > 2) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator int() const { return fd_; }

 private:
  int fd_;
};

OwnedText in_memory(std::string text) {
  auto owner = std::make_shared<const std::string>(std::move(text));
  return {*owner, owner};
}

OwnedText map_whole(int fd, size_t size, const std::string& name) {
  if (size == 0) return {};
  void* start = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (start == MAP_FAILED) throw input_error("cannot map {} into memory: {}", name, std::strerror(errno));
  std::shared_ptr<const void> owner(start, [size](const void* p) { ::munmap(const_cast<void*>(p), size); });
  return {std::string_view(static_cast<const char*>(start), size), std::move(owner)};
}

OwnedText bytes_of_file(const std::string& path) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  check_stop();
  if (fd < 0) throw input_error("cannot open {}: {}", path, std::strerror(errno));
  struct stat status;
  if (::fstat(fd, &status) != 0) throw input_error("cannot read {}: {}", path, std::strerror(errno));
  if (S_ISDIR(status.st_mode)) throw input_error("{} is a directory: name the text files in it", path);
  // Pipes and devices have no size to map. Neither have the files of /proc, whose size reads as 0.
  if (!S_ISREG(status.st_mode) || status.st_size == 0) return in_memory(read_to_end(fd, path));
  return map_whole(fd, static_cast<size_t>(status.st_size), path);
}

std::atomic<bool> standard_input_stays = false;

// The rest of a regular file is mapped.
OwnedText bytes_of_standard_input(const std::string& name) {
  struct stat status;
  if (::fstat(STDIN_FILENO, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0)
    if (const off_t place = ::lseek(STDIN_FILENO, 0, SEEK_CUR); place >= 0) {
      OwnedText all = map_whole(STDIN_FILENO, static_cast<size_t>(status.st_size), name);
      all.text.remove_prefix(std::min(static_cast<size_t>(place), all.text.size()));
      if (!standard_input_stays) ::lseek(STDIN_FILENO, 0, SEEK_END);
      return all;
    }
  return in_memory(read_to_end(STDIN_FILENO, name));
}

// The name's extension in lower case, which is taken off the name; "" where it has none.
std::string take_extension(std::string_view& name) {
  const size_t dot = name.rfind('.');
  if (dot == name.npos || name.find('/', dot) != name.npos) return "";
  std::string extension = lower_case(name.substr(dot));
  name = name.substr(0, dot);
  return extension;
}

bool is_compressed_extension(const std::string& extension) {
  return extension == ".gz" || extension == ".gzip" || extension == ".zst" || extension == ".zstd";
}

OwnedText decompressed(const FileKind& kind, OwnedText bytes, const std::string& name) {
  // What is free beside the compressed bytes, which stay until the text is complete.
  OwnedText text = decompress(kind.compression, bytes.text, name, free_memory());
  if (const FileKind* inner = file_kind(text.text))
    throw input_error("{} holds {}, not text: {}", in_message(name), inner->name,
                      inner->compression == Compression::none ? inner->advice : "it was compressed twice");
  return text;
}

}  // namespace

bool named_json_lines(std::string_view path) {
  std::string extension = take_extension(path);
  if (is_compressed_extension(extension)) extension = take_extension(path);
  return extension == ".jsonl" || extension == ".ndjson";
}

void keep_standard_input() {
  standard_input_stays = true;
}

FileText read_file_text(const std::string& path) {
  FileText file;
  file.name = path == "-" ? "standard input" : path;
  file.bytes = path == "-" ? bytes_of_standard_input(file.name) : bytes_of_file(path);
  std::string_view name = path;
  const bool named_so = is_compressed_extension(take_extension(name));
  file.json_lines = named_json_lines(path);
  refuse_known_binary(file.bytes.text, file.name);
  if (const FileKind* kind = file_kind(file.bytes.text))
    file.bytes = decompressed(*kind, std::move(file.bytes), file.name);
  else if (named_so && !file.bytes.text.empty())
    throw input_error("{} is not compressed, though its name says so: it is damaged, or needs another name",
                      in_message(file.name));
  return file;
}

const FileKind* kind_of_file(const std::string& path) {
  // Neither a pipe nor a device: what is read of these is gone.
  struct stat status;
  if (path == "-" || ::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return nullptr;
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 4096> start;
  const ssize_t got = fd < 0 ? 0 : ::read(fd, start.data(), start.size());
  return got > 0 ? file_kind({start.data(), static_cast<size_t>(got)}) : nullptr;
}

std::string text_of_bytes(std::string bytes, const std::string& name) {
  refuse_known_binary(bytes, name);
  const FileKind* kind = file_kind(bytes);
  return kind ? std::string(decompressed(*kind, in_memory(std::move(bytes)), name).text) : bytes;
}

}  // namespace hone
