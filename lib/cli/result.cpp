#include "cli/result.h"

#include <cstdio>

#include "base/error.h"
#include "base/log.h"
#include "base/quiet_thread.h"
#include "base/stop.h"

namespace hone::cli {

void print_result(const std::string& text) {
  if (thread_is_quiet()) return;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    check_stop();
    throw input_error("cannot write to standard output");
  }
}

int fail(int status, const std::string& message) {
  constexpr size_t most_characters = 200;
  set_log_level(LogLevel::error);
  log_line(LogLevel::error, one_line("error: " + message, most_characters));
  return status;
}

}  // namespace hone::cli
