#include "base/log.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>

#include "base/error.h"

namespace hone {
namespace {

LogLevel current_level = LogLevel::info;
bool line_open = false;  // a progress line stands on the terminal without its newline

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool terminal() {
  static const bool result = isatty(STDERR_FILENO) == 1;
  return result;
}

// Where nobody can read messages (a closed stream, a full device) the work goes on without them.
void put(const std::string& text) {
  std::fputs(text.c_str(), stderr);
}

void clear_line() {
  if (line_open) std::fputs("\r\033[K", stderr);
  line_open = false;
}

}  // namespace

void set_log_level(LogLevel level) {
  current_level = level;
}

LogLevel log_level() {
  return current_level;
}

LogLevel log_level_named(std::string_view name) {
  constexpr std::array<std::string_view, 4> names = {"error", "warning", "info", "debug"};
  for (size_t i = 0; i < names.size(); ++i)
    if (names[i] == name) return static_cast<LogLevel>(i);
  throw usage_error("unknown log level '{}'; use error, warning, info or debug", name);
}

void log_line(LogLevel level, std::string_view text) {
  if (level > current_level) return;
  clear_line();
  put(fmt::format("{}\n", text));
}

Progress::Progress(double plain_interval_seconds) : interval_(plain_interval_seconds) {}

Progress::~Progress() {
  clear_line();
}

void Progress::show(const std::string& text) {
  if (current_level < LogLevel::info) return;
  const double now = seconds();
  if (now - last_ < (terminal() ? 0.1 : interval_)) return;
  last_ = now;
  if (terminal()) {
    put(fmt::format("\r{}\033[K", text));
    std::fflush(stderr);
    line_open = true;
  } else {
    put(fmt::format("{}\n", text));
  }
}

void Progress::finish(const std::string& text) {
  if (current_level < LogLevel::info) return;
  clear_line();
  put(fmt::format("{}\n", text));
}

}  // namespace hone
