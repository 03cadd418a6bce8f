// Files that appear whole or not at all: written beside their target, flushed, then renamed.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/target.h"

namespace hone {

// What becomes of work that is finished when its target cannot be had.
enum class IfTaken {
  refuse,  // an error; for what can be made again
  beside   // it is saved under a free name beside the target: a.1.h5 for a.h5
};

class AtomicFile {
 public:
  // Follows symbolic links: the link's target is replaced, the link stays. Makes an empty temporary beside it, and
  // removes those that killed runs left of the same target. Throws as require_writable(); with IfTaken::beside only
  // where the temporary cannot be made.
  AtomicFile(const std::string& target, bool force, IfTaken taken = IfTaken::refuse);
  ~AtomicFile();  // removes the temporary unless commit() was called
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  const std::string& temporary() const { return temporary_; }  // write here
  const std::string& target() const { return target_.name; }

  // Flushes the temporary to the device and renames it; a file that it replaces leaves its mode, and its owner where
  // this process may give files away. Returns the path that it has: the target as it was named, or, with
  // IfTaken::beside, another one where the target exists by now (and force is false), became read-only or a directory.
  // Throws Error(input) when the device is full or fails, Error(usage) when the target exists by now.
  std::string commit();

 private:
  std::optional<Error> move_to_target() const;  // what stood in its way
  std::string move_beside(const Error& reason);

  Target target_;
  std::string temporary_;
  bool force_;
  IfTaken taken_;
  bool done_ = false;
};

// Checks the target of a whole file early, before hours of work. Throws Error(usage) if it exists and `force` is false,
// or is not a regular file; Error(input) if it is read-only, its name is too long, or its directory is missing or
// cannot be written.
void require_writable(const std::string& target, bool force);

// The same of a folder that files are written into: it is there, or can be made in one that is. Error(input).
void require_folder_writable(const std::string& folder);

std::string read_text_file(const std::string& path);  // Error(input)
// What is left of an open file, pipe or device; `name` is for messages. Throws Error(input) where it cannot be read, or
// is more than the memory that is free: a device may have no end.
std::string read_to_end(int fd, const std::string& name);
void write_text_file(const std::string& path, const std::string& text, bool force = true);  // atomic
std::string sha256_of_file(const std::string& path);  // lower-case hex; Error(input), Stopped
std::string sha256_of(std::string_view bytes);        // of a file that holds them

// Brings what was written to a file onto its device. Returns 0 or an errno; throws Stopped between two parts.
int flush_to_device(int fd);

}  // namespace hone
