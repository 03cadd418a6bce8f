#include "measure/retrieval.h"

#include <doctest/doctest.h>

#include <fstream>

#include "base/error.h"
#include "support/media_files.h"
#include "support/models.h"
#include "support/scratch.h"

using namespace hone;
using namespace hone::test;

TEST_CASE("ranks count the wrong ones before the nearest right one, ties against it") {
  const Tensor s = Tensor::of({3, 4}, {0.9f, 0.1f, 0.2f, 0.3f,    // the first is right: rank 1
                                       0.5f, 0.5f, 0.4f, 0.1f,    // the second, and the first stands as near: 2
                                       0.8f, 0.7f, 0.1f, 0.6f});  // the third and fourth: 3 by the fourth
  const auto right = [](int64_t q, int64_t i) { return q == 2 ? i >= 2 : i == q; };
  const RecallScores scores = recall_of(s, right);
  CHECK(scores.queries == 3);
  CHECK(scores.recall[0] == doctest::Approx(1.0 / 3));
  CHECK(scores.recall[1] == 1);
  CHECK(scores.median_rank == 2);
  // Whatever stands nowhere in particular is found by chance alone: nothing.
  const RecallScores nothing = recall_of(Tensor::zeros({4, 20}), [](int64_t q, int64_t i) { return i == q; });
  CHECK(nothing.recall == std::array<double, 3>{0, 0, 0});
  CHECK(nothing.median_rank == 20);
}

namespace {

void write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace

TEST_CASE("every image and sound counts once, and is read without what stands beside it") {
  const Scratch scratch;
  write(scratch / "images", noise_idx(3));
  for (uint64_t i = 0; i < 3; ++i) write(scratch / fmt::format("{}.wav", i), noise_wav(800, i));
  std::string lines;
  const auto line = [&](int image, int sound, const char* answer) {
    lines +=
        fmt::format(R"({{"parts": [{{"image": "images#{}"}}, {{"audio": "{}.wav"}}, {{"text": "="}}], "answer": "{}"}})"
                    "\n",
                    image, sound, answer);
  };
  line(0, 0, "a");
  line(1, 1, "b");
  line(2, 2, "b");
  line(0, 0, "a");                                         // once more
  lines += R"({"parts": [{"text": "x"}], "answer": "a"})"  // neither
           "\n";
  write(scratch / "pairs.jsonl", lines);
  Config config = small_config();
  config.vocabulary = config.padded_vocabulary = 256;
  config.encoders = {"patches:2x3:GREY:8x9", "mel:4:8000:25/10:2"};
  Transformer model(config);
  initialize(model, 3, 0.2);
  SequenceReader reader(read_examples({scratch / "pairs.jsonl"}),
                        std::shared_ptr<const Tokenizer>(train_tokenizer({"bytes", 256}, {})), config, 64, {});
  const RetrievalScores scores = retrieve(model, reader, 0, 1, DType::f32);
  CHECK(scores.pairs == 4);
  CHECK(scores.classes);
  CHECK(scores.to_right.exact.queries == 3);
  CHECK(scores.to_left.exact.queries == 3);
  CHECK(scores.to_right.exact.recall[1] == 1);  // of three all are among the first five
  CHECK(scores.to_right.by_class.recall[0] >= scores.to_right.exact.recall[0]);
  MetricValues values;
  add_retrieval(scores, "image", "audio", values);
  CHECK(values.size() == retrieval_metrics("image", "audio").size());
  for (const std::string& name : retrieval_metrics("image", "audio")) CHECK(values.contains(name));

  write(scratch / "one.jsonl", lines.substr(0, lines.find('\n') + 1));
  SequenceReader one(read_examples({scratch / "one.jsonl"}),
                     std::shared_ptr<const Tokenizer>(train_tokenizer({"bytes", 256}, {})), config, 64, {});
  CHECK_THROWS_AS(retrieve(model, one, 0, 1, DType::f32), Error);
}
