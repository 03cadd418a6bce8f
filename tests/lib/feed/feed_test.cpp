#include <doctest/doctest.h>

#include <fstream>

#include "base/error.h"
#include "feed/ahead.h"
#include "support/scratch.h"

using namespace hone;
using namespace hone::test;

namespace {

std::string write(const Scratch& scratch, const std::string& name, const std::string& bytes) {
  const std::string path = scratch / name;
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

// Three images of 4 x 6, all of one grey each, and their labels.
void write_idx(const Scratch& scratch) {
  const std::string size("\0\0\0\3", 4);
  write(scratch, "images",
        std::string("\0\0\x08\x03", 4) + size + std::string("\0\0\0\4\0\0\0\6", 8) + std::string(24, '\0') +
            std::string(24, '\x7f') + std::string(24, '\xff'));
  write(scratch, "labels", std::string("\0\0\x08\x01", 4) + size + std::string("\4\5\6", 3));
}

Config config() {
  Config c;
  c.encoders = {"patches:2x3:GREY:8x9"};
  return c;
}

SequenceReader reader_of(const std::string& path, LossRows loss = LossRows::all, int64_t context = 64,
                         bool skip = false, Config c = config()) {
  FeedSettings settings;
  settings.loss = loss;
  settings.skip_broken = skip;
  return SequenceReader(read_examples({path}), std::shared_ptr<const Tokenizer>(train_tokenizer({"bytes", 256}, {})), c,
                        context, settings);
}

template <class F>
std::string refusal(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a line is rows in order, and the loss stands where it is wanted") {
  const Scratch scratch;
  write_idx(scratch);
  const std::string path = write(
      scratch, "a.jsonl", R"({"parts": [{"text": "ab"}, {"image": "images#1"}, {"text": "cd"}], "answer": "ef"})");
  // a b [ 1 2 3 4 ] c d e f: a delimiter, 2 x 2 patches, a delimiter
  const auto targets = [&](LossRows loss) { return reader_of(path, loss).read(0)->targets; };
  const Sequence s = *reader_of(path).read(0);
  REQUIRE(s.size() == 12);
  REQUIRE(s.parts.size() == 1);
  CHECK(s.parts[0].row == 2);
  CHECK(s.parts[0].rows() == 6);
  CHECK(s.parts[0].features.columns == 2);
  CHECK(s.parts[0].features.values[0] == doctest::Approx(127 / 127.5 - 1));
  CHECK(s.ids[8] == 'c');
  CHECK(targets(LossRows::all) == std::vector<int32_t>{'b', -1, -1, -1, -1, -1, -1, 'c', 'd', 'e', 'f', 0});
  CHECK(targets(LossRows::text) == std::vector<int32_t>{'b', -1, -1, -1, -1, -1, -1, -1, 'd', 'e', 'f', 0});
  CHECK(targets(LossRows::answers) == std::vector<int32_t>{-1, -1, -1, -1, -1, -1, -1, -1, -1, 'e', 'f', 0});
  CHECK(s.answer_row == 9);
  CHECK(s.answer_tokens == 2);
}

TEST_CASE("a line with ranges stands for an example each, with labels from their file") {
  const Scratch scratch;
  write_idx(scratch);
  SequenceReader reader = reader_of(
      write(scratch, "a.jsonl", R"({"parts": [{"image": "images#1..3"}], "answer": {"labels": "labels#0..2"}})"));
  REQUIRE(reader.size() == 2);
  CHECK(reader.examples().all[1].answer == "5");
  CHECK(reader.examples().all[1].parts[0].index == 2);
  CHECK(reader.read(1)->parts[0].features.values[3] == doctest::Approx(1));
  CHECK(mix_name(reader.examples().all[0].mix()) == "image");
}

TEST_CASE("lines that are no examples are refused with their number") {
  const Scratch scratch;
  write_idx(scratch);
  const auto refused = [&](const std::string& line) {
    return refusal([&] { read_examples({write(scratch, "a.jsonl", "\n" + line + "\n")}); });
  };
  CHECK(refused(R"({"parts": ["a.png"]})").find("line 2: part 1 is no object") != std::string::npos);
  CHECK(refused(R"({"parts": []})").find("at least one") != std::string::npos);
  CHECK(refused(R"({"parts": [{"image": 3}]})").find("must have one string") != std::string::npos);
  CHECK(refused(R"({"parts": [{"image": "a", "audio": "b"}]})").find("must have one string") != std::string::npos);
  CHECK(refused(R"({"parts": [{"image": "images#5..2"}]})").find("the end above the first") != std::string::npos);
  CHECK(refused(R"({"parts": [{"image": "images#0..3"}], "answer": {"labels": "labels#0..2"}})").find("ranges of 3") !=
        std::string::npos);
  CHECK(refused(R"({"parts": [{"text": "a"}], "answer": {"labels": "none#0"}})").find("does not exist") !=
        std::string::npos);
  CHECK(refused(R"({"parts": [{"text": "a"}], "answer": "b", "loss_weight": 0})").find("above 0") != std::string::npos);
  CHECK(refused(R"({"prompt": "a"})").find("without an \"answer\"") != std::string::npos);
  CHECK(refused("7").find("not an object") != std::string::npos);
}

TEST_CASE("what a model cannot take and files that cannot be read are named, or left out and counted") {
  const Scratch scratch;
  write_idx(scratch);
  const std::string path = write(scratch, "a.jsonl",
                                 "{\"parts\": [{\"image\": \"images#0\"}], \"answer\": \"a\"}\n"
                                 "{\"parts\": [{\"image\": \"none.png\"}], \"answer\": \"b\"}\n");
  CHECK(refusal([&] { reader_of(path).read(1); }).find("a.jsonl, line 2: '" + (scratch / "none.png")) !=
        std::string::npos);
  SequenceReader skipping = reader_of(path, LossRows::all, 64, true);
  CHECK(!skipping.read(1));
  CHECK(!skipping.read(1));
  CHECK(skipping.broken() == 1);
  CHECK(refusal([&] { reader_of(path, LossRows::all, 4).read(0); }).find("7 rows of text and media, more than") !=
        std::string::npos);
  CHECK(refusal([&] {
          reader_of(path, LossRows::all, 64, false, Config());
        }).find("line 1: '" + (scratch / "images") + "#0' is of a kind, image, that the model has no encoder for") !=
        std::string::npos);
  const std::string text = write(scratch, "b.jsonl", R"({"text": "a"})");
  CHECK(refusal([&] { reader_of(text, LossRows::answers); }).find("no answer") != std::string::npos);
}

TEST_CASE("sequences made ahead come in order, with the errors of those that could not be made") {
  const auto make = [](int64_t position) -> std::optional<Sequence> {
    if (position == 5) throw input_error("five");
    if (position % 2 == 0) return std::nullopt;
    Sequence s;
    s.example = position;
    return s;
  };
  SequencesAhead ahead(make, 0, 3);
  CHECK(ahead.next(10).example == 1);
  CHECK(ahead.position() == 2);
  CHECK(ahead.next(10).example == 3);
  CHECK(refusal([&] { ahead.next(10); }) == "five");
  CHECK(ahead.next(10).example == 7);
  SequencesAhead none([](int64_t) { return std::optional<Sequence>(); }, 0, 3);
  CHECK(refusal([&] { none.next(4); }).find("none of 4 examples") != std::string::npos);
}
