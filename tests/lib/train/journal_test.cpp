#include "train/journal.h"

#include <doctest/doctest.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/atomic_file.h"
#include "base/error.h"

using namespace hone;

namespace {

const std::string path = "journal_test.jsonl", plot = "journal_test.svg";

std::vector<int64_t> steps() {
  std::vector<int64_t> found;
  std::istringstream lines(read_text_file(path));
  for (std::string line; std::getline(lines, line);) found.push_back(nlohmann::json::parse(line)["step"]);
  return found;
}

void add(Journal& journal, int64_t from, int64_t to) {
  for (int64_t step = from; step <= to; ++step) {
    StepResult result;
    result.loss = 5.0 / static_cast<double>(step);
    journal.add(step, 10 * step, result, step % 2 ? std::optional<double>() : 4.0, 100);
  }
}

}  // namespace

TEST_CASE("a resumed log goes on behind the checkpoint's step: later lines and half a line are dropped") {
  {
    Journal journal(path, "");
    add(journal, 1, 6);
  }
  write_text_file(path, read_text_file(path) + "{\"step\":7,\"lo");
  {
    Journal journal(path, plot, 4);
    CHECK(steps() == std::vector<int64_t>{1, 2, 3, 4});
    add(journal, 5, 8);
    CHECK(steps() == std::vector<int64_t>{1, 2, 3, 4, 5, 6, 7, 8});
    journal.finish();
    CHECK(journal.log_missing().empty());
    CHECK(journal.plot_missing().empty());
  }
  // The plot has the whole run. A second one, drawn from the log alone, is the same.
  const std::string whole = read_text_file(plot);
  Journal again(path, plot, 8);
  again.finish();
  CHECK(read_text_file(plot) == whole);
  Journal anew(path, "");
  CHECK(steps().empty());
  std::remove(path.c_str());
  std::remove(plot.c_str());
}

TEST_CASE("a file that is no log is left alone") {
  for (const char* text : {"hello\n", "{\"a\":1}\n", "[1]\n", "{\"step\":\"x\",\"loss\":1}\n"}) {
    write_text_file(path, text);
    CHECK_THROWS_AS(Journal(path, "", 3), Error);
    CHECK(read_text_file(path) == text);
  }
  std::remove(path.c_str());
}

TEST_CASE("what cannot be written is a warning, and is remembered") {
  Journal full("/dev/full", "");
  add(full, 1, 3);
  const std::string why = full.log_missing();
  CHECK(why.starts_with("cannot write '/dev/full': "));
  add(full, 4, 4);  // the log has ended, and is missing once
  CHECK(full.log_missing() == why);
  CHECK(full.plot_missing().empty());
  Journal journal("", "/dev/full");
  add(journal, 1, 3);
  CHECK(journal.plot_missing().empty());
  journal.finish();
  CHECK(journal.plot_missing().starts_with("cannot write '/dev/full': "));
  CHECK(journal.log_missing().empty());
}
