#include "base/spelling.h"

#include <doctest/doctest.h>

#include "base/program.h"

using namespace hone;

TEST_CASE("edit distance counts insertions, removals, replacements and exchanges of neighbours") {
  CHECK(edit_distance("", "") == 0);
  CHECK(edit_distance("steps", "steps") == 0);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("setps", "steps") == 1);
  CHECK(edit_distance("ca", "abc") == 3);  // no part is edited twice: 2 without that restriction
}

TEST_CASE("the nearest name is few edits away, or begins as the word, or there is none") {
  const std::vector<std::string> names = {"--steps",        "--batch",         "--valid-every",
                                          "--valid-tokens", "--learning-rate", "--lr"};
  CHECK(nearest_name("--stepz", names) == "--steps");
  CHECK(nearest_name("setps", names) == "--steps");
  CHECK(nearest_name("--valid_every", names) == "--valid-every");
  CHECK(nearest_name("--BATCH", names) == "--batch");
  CHECK(nearest_name("--learn", names) == "--learning-rate");
  CHECK(nearest_name("--colour", names) == "");
  CHECK(nearest_name("-x", names) == "");
  CHECK(nearest_name("", names) == "");
  CHECK(nearest_name(std::string(100000, 's'), names) == "");
  CHECK(did_you_mean("stepz", names) == "; did you mean '--steps'?");
  CHECK(did_you_mean("colour", names) == "");
}

TEST_CASE("lists of names") {
  CHECK(either_of(std::vector<std::string>{"a"}) == "a");
  CHECK(either_of(std::vector<std::string>{"a", "b"}) == "a or b");
  CHECK(either_of(std::vector<std::string>{"a", "b", "c"}) == "a, b or c");
  CHECK(each_of(std::vector<std::string>{"a", "b", "c"}) == "a, b and c");
  CHECK(with_article("image") == "an image");
  CHECK(with_article("sound or image") == "a sound or image");
  CHECK(with_article("\"audio\"") == "an \"audio\"");
}

TEST_CASE("things that are counted") {
  CHECK(counted(1, "layer") == "1 layer");
  CHECK(counted(size_t{0}, "layer") == "0 layers");
  CHECK(counted(int64_t{12}, "packed matrix") == "12 packed matrices");
  CHECK(plural("entry") == "entries");
  CHECK(plural("key") == "keys");
  CHECK(plural("batch") == "batches");
  CHECK(plural("box") == "boxes");
}

TEST_CASE("a program has the last part of its path as its name, and other tools the same prefix") {
  set_program("/usr/bin/hone-train", "train");
  CHECK(program_name() == "hone-train");
  CHECK(command_name("prune") == "hone-prune");
  set_program("build/bin/train", "train");
  CHECK(program_name() == "train");
  CHECK(command_name("prune") == "prune");
  set_program(nullptr, "train");
  CHECK(program_name() == "train");
}
