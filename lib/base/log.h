// Messages for people, always to stderr: stdout carries results only.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

namespace hone {

enum class LogLevel { error, warning, info, debug };

void set_log_level(LogLevel level);  // default: info
LogLevel log_level();
LogLevel log_level_named(std::string_view name);  // throws Error(usage)

void log_line(LogLevel level, std::string_view text);  // one line; clears a progress line that is being shown

// `text` on one line: line ends become blanks. Of what is longer than `most` characters the quoted parts
// ('/a/long/path') lose their middle, but together they keep half of `most`: the words around them, a list of names
// among them, stay whole. Of what is longer than 20 times `most` the middle goes, whatever it is.
std::string one_line(std::string text, size_t most);

template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level() >= LogLevel::info) log_line(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level() >= LogLevel::warning)
    log_line(LogLevel::warning, "warning: " + fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level() >= LogLevel::debug) log_line(LogLevel::debug, fmt::format(format, std::forward<Args>(args)...));
}

// One line that is rewritten in place on a terminal; elsewhere a plain line now and then. Silent below LogLevel::info.
// However the work ends, what was shown last stands there as a whole line.
class Progress {
 public:
  explicit Progress(double plain_interval_seconds = 10);
  ~Progress();  // as finish() with the text that was last given to show(), if any was
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void show(const std::string& text);  // call as often as you like
  void finish(const std::string& text);

 private:
  double interval_;
  double last_ = -1e300;
  std::string latest_, printed_;
};

}  // namespace hone
