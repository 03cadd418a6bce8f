// Examples that are made ahead on another thread: tests/run.sh runs these under the thread sanitizer, too.
#include <doctest/doctest.h>

#include <fstream>

#include "feed/ahead.h"
#include "support/scratch.h"

using namespace hone;
using namespace hone::test;

TEST_CASE("threads: what is made ahead is what the same reader gives the thread that asks") {
  const Scratch scratch;
  std::string pixels;
  for (int i = 0; i < 3 * 4 * 6; ++i) pixels += static_cast<char>(3 * i);
  std::ofstream(scratch / "images", std::ios::binary)
      << std::string("\0\0\x08\x03", 4) << std::string("\0\0\0\3\0\0\0\4\0\0\0\6", 12) << pixels;
  const std::string path = scratch / "a.jsonl";
  std::ofstream lines(path);
  for (int i = 0; i < 6; ++i)
    lines << R"({"parts": [{"text": "a"}, {"image": "images#)" << i % 3 << R"("}], "answer": ")" << i << "\"}\n";
  lines.close();
  Config config;
  config.encoders = {"patches:2x3:GREY:8x9"};
  SequenceReader reader(read_examples({path}), byte_tokenizer(), config, 64, {});
  REQUIRE(reader.size() == 6);
  SequencesAhead ahead([&](int64_t position) { return reader.read(position % 6); }, 0, 4);
  for (int64_t i = 0; i < 30; ++i) {
    const Sequence here = *reader.read(i % 6), made = ahead.next(0);
    CHECK(ahead.position() == i + 1);
    CHECK(made.example == i % 6);
    CHECK(made.ids == here.ids);
    REQUIRE(made.parts.size() == 1);
    CHECK(made.parts[0].features.values == here.parts[0].features.values);
  }
}
