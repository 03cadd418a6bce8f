#include "base/log.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <mutex>

#include "base/clock.h"
#include "base/error.h"
#include "base/quiet_thread.h"

namespace hone {
namespace {

thread_local bool quiet = false;

LogLevel current_level = LogLevel::info;
bool line_open = false;  // a progress line stands on the terminal without its newline

bool terminal() {
  static const bool result = isatty(STDERR_FILENO) == 1;
  return result;
}

// Where nobody can read messages (a closed stream, a full device) the work goes on without them.
void put(const std::string& text) {
  std::fputs(text.c_str(), stderr);
}

// Whoever writes, or looks at line_open, has it: ranks that are threads, and threads that read ahead, say things, too.
std::unique_lock<std::mutex> pen() {
  static std::mutex mutex;
  return std::unique_lock(mutex);
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
  return quiet ? LogLevel::error : current_level;
}

QuietThread::QuietThread(bool is_quiet) : before_(quiet) {
  quiet = is_quiet;
}

QuietThread::~QuietThread() {
  quiet = before_;
}

bool thread_is_quiet() {
  return quiet;
}

LogLevel log_level_named(std::string_view name) {
  constexpr std::array<std::string_view, 4> names = {"error", "warning", "info", "debug"};
  for (size_t i = 0; i < names.size(); ++i)
    if (names[i] == name) return static_cast<LogLevel>(i);
  throw usage_error("unknown log level '{}'; use error, warning, info or debug", name);
}

void log_line(LogLevel level, std::string_view text) {
  if (level > log_level()) return;
  const auto lock = pen();
  clear_line();
  put(fmt::format("{}\n", text));
}

namespace {

bool starts_character(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
}

size_t characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), starts_character));
}

// The first and the last characters of `text`, `most` in all with the sign between them.
std::string without_middle(std::string_view text, size_t most) {
  const size_t front = (most - 1) / 2, back = most - 1 - front;
  size_t begin = 0, end = text.size();
  for (size_t count = 0; begin < text.size(); ++begin)
    if (starts_character(text[begin]) && count++ == front) break;
  for (size_t count = 0; count < back && end > begin;)
    if (starts_character(text[--end])) ++count;
  return fmt::format("{}…{}", text.substr(0, begin), text.substr(end));
}

struct Quoted {
  size_t begin = 0, end = 0;  // of the longest part between two quotes, without them
  size_t length = 0;          // its characters
  size_t all = 0;             // characters of all such parts
};

Quoted quoted_in(std::string_view text) {
  Quoted result;
  for (size_t open = text.find('\''); open != std::string_view::npos;) {
    const size_t close = text.find('\'', open + 1);
    if (close == std::string_view::npos) break;
    const size_t length = characters(text.substr(open + 1, close - open - 1));
    result.all += length;
    if (length > result.length) result.begin = open + 1, result.end = close, result.length = length;
    open = text.find('\'', close + 1);
  }
  return result;
}

// What one row of the terminal holds: the end of a longer text could not be rewritten.
std::string fitting(const std::string& text) {
  winsize size = {};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 20) return text;
  const size_t most = size.ws_col - 1u;
  return characters(text) <= most ? text : without_middle(text, most);
}

}  // namespace

std::string one_line(std::string text, size_t most) {
  constexpr size_t least_quoted = 24;  // what is left of a quoted part
  constexpr size_t most_lines = 20;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  for (char& c : text)
    if (c == '\n' || c == '\r') c = ' ';
  const size_t room = std::max(most, characters(text) - quoted_in(text).all + most / 2);
  while (characters(text) > room) {
    const Quoted quoted = quoted_in(text);
    if (quoted.length <= least_quoted) break;
    const std::string part = text.substr(quoted.begin, quoted.end - quoted.begin);
    const size_t excess = characters(text) - room;
    text.replace(quoted.begin, part.size(),
                 without_middle(part, std::max(least_quoted, quoted.length - std::min(excess, quoted.length))));
  }
  return characters(text) > most_lines * most ? without_middle(text, most_lines * most) : text;
}

Progress::Progress(double plain_interval_seconds) : interval_(plain_interval_seconds) {}

Progress::~Progress() {
  if (!latest_.empty()) finish(std::string(latest_));  // a copy: it is cleared there
}

void Progress::show(const std::string& text) {
  if (log_level() < LogLevel::info) return;
  latest_ = text;
  const double now = seconds_now();
  if (now - last_ < (terminal() ? 0.1 : interval_)) return;
  last_ = now;
  printed_ = text;
  const auto lock = pen();
  if (terminal()) {
    put(fmt::format("\r{}\033[K", fitting(text)));
    std::fflush(stderr);
    line_open = true;
  } else {
    put(fmt::format("{}\n", text));
  }
}

void Progress::finish(const std::string& text) {
  latest_.clear();
  if (log_level() < LogLevel::info) return;
  const auto lock = pen();
  clear_line();
  if (terminal() || text != printed_) put(fmt::format("{}\n", text));
  printed_ = text;
}

}  // namespace hone
