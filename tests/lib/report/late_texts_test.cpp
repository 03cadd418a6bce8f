#include "report/late_texts.h"

#include <doctest/doctest.h>

#include <fstream>

#include "base/atomic_file.h"
#include "support/failure.h"
#include "support/scratch.h"

using namespace hone;
using test::failure;
using test::Scratch;

TEST_CASE("a late text is written, and one that is not asked for is not missing") {
  const Scratch scratch;
  LateTexts late(false);
  CHECK(late.write("--report", scratch / "r.csv", "text"));
  CHECK(late.write("--plot", "", ""));
  late.saved(scratch / "m.h5", scratch / "m.h5");
  CHECK(read_text_file(scratch / "r.csv") == "text");
  CHECK(late.missing().empty());
  CHECK(late.status() == 0);
}

TEST_CASE("late texts that fail are one error, which the others do not wait for") {
  const Scratch scratch;
  std::ofstream(scratch / "r.csv") << "theirs";
  LateTexts late(false);
  CHECK_FALSE(late.write("--plot", "/dev/full", "text"));
  CHECK(late.write("--report", scratch / "r.csv", "mine"));
  late.saved("m.h5", "m.1.h5");
  CHECK(read_text_file(scratch / "r.1.csv") == "mine");
  CHECK(late.missing().starts_with("--plot: cannot write '/dev/full': "));
  CHECK(
      late.missing().ends_with(fmt::format("; --report: '{}' cannot be replaced by now; '{}' has what was to be "
                                           "written there; 'm.h5' cannot be replaced by now; the model is in "
                                           "'m.1.h5'",
                                           scratch / "r.csv", scratch / "r.1.csv")));
  CHECK(failure([&] { late.status(); }) == "3 " + late.missing() + "; all else is done");
}
