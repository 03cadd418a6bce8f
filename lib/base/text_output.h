// Text that goes where a user says: to a regular file, or to "-", /dev/stdout, a pipe or another device.
#pragma once

#include <string>
#include <string_view>

#include "base/target.h"

namespace hone {

class TextOutput {
 public:
  TextOutput() = default;  // no path: writes nothing
  // Checks the path, and writes nothing yet. Throws as require_text_writable().
  TextOutput(const std::string& path, bool force);
  // For a path that require_text_writable() let pass before the work: what stands in its way by now is evaded.
  static TextOutput checked_before(const std::string& path, bool force);
  ~TextOutput();
  TextOutput(TextOutput&& other) noexcept;
  TextOutput& operator=(TextOutput&& other) noexcept;

  explicit operator bool() const { return !target_.name.empty(); }
  const std::string& path() const { return target_.name; }  // as the user gave it
  bool stream() const { return target_.stream; }            // what was written cannot be replaced

  // The whole text: a regular file is replaced at once, as often as this is called; a stream gets it after what it got
  // before. Returns the path that it has: another one beside it where the file exists by now (and force is false) or
  // cannot be replaced. Throws Error(input) where nothing can be written, Stopped while it waits for a pipe's reader.
  std::string write(std::string_view text);

  // Adds lines to what is there: a log, whose every line is on its way when this returns. Of a line that cannot be
  // written whole nothing stays. Start a new log with write("").
  void append(std::string_view text);

 private:
  void open_stream();
  void close_own();

  Target target_;
  std::string file_;  // what is written to: target_.file, or the one beside it
  bool force_ = false;
  int fd_ = -1;
};

// Before the work. Throws as require_writable() for a regular file; Error(input) for a stream that cannot be written
// to.
void require_text_writable(const std::string& path, bool force);

}  // namespace hone
