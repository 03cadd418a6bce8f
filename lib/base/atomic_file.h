// Files that appear whole or not at all: written beside their target, flushed, then renamed.
#pragma once

#include <string>

namespace hone {

class AtomicFile {
 public:
  // Throws Error(usage) if `target` exists and `force` is false, or is not a regular file; Error(input) if its
  // directory cannot be written.
  AtomicFile(std::string target, bool force);
  ~AtomicFile();  // removes the temporary unless commit() was called
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  const std::string& temporary() const { return temporary_; }  // write here
  const std::string& target() const { return target_; }

  // Flushes the temporary to the device and renames it. Throws Error(input) when the device is full or fails.
  void commit();

 private:
  std::string target_, temporary_;
  bool force_;
  bool done_ = false;
};

// Checks a target early, before hours of work: same errors as the constructor of AtomicFile.
void require_writable(const std::string& target, bool force);

std::string read_text_file(const std::string& path);                                        // Error(input)
void write_text_file(const std::string& path, const std::string& text, bool force = true);  // atomic
std::string sha256_of_file(const std::string& path);  // lower-case hex; Error(input)

}  // namespace hone
