// Where the path of an output leads: through symbolic links to a file, or to a stream.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace hone {

struct Target {
  std::string name;     // as the user gave it
  std::string file;     // the same with its last component's links followed: what is replaced, and written beside
  int descriptor = -1;  // open already: of "-", /dev/stdout, /dev/stderr, /dev/fd/N
  // A descriptor, pipe, terminal or character device: takes text as it comes, and needs no --force.
  bool stream = false;
  bool exists = false;
  unsigned mode = 0;  // of a file that exists: permission bits
};

// Throws Error(usage) for directories, block devices and sockets; Error(input) for a path that cannot be looked up (too
// long, links in a circle, no permission).
Target resolve_target(const std::string& path);

// The same for work that is done, whatever is in its place by now: never throws.
Target target_by_now(const std::string& path);

// Whether a file's permissions let this process replace it. Root is never refused by the system, so a file without any
// write bit counts as read-only for root, too.
bool writable_file(const Target& target);

std::string directory_of(const std::string& path);  // "." where the path has none

using NamedPath = std::pair<std::string, std::string>;  // option, path; an empty path is none

// Before the work: throws Error(usage) naming both options when two outputs are one file, or an output is an input.
// Files are the same by resolved path, or by device and inode. "-", pipes and devices may repeat.
void require_distinct(const std::vector<NamedPath>& outputs, const std::vector<NamedPath>& inputs);

}  // namespace hone
