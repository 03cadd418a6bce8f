// Pairs of parts in batches of examples, and what training makes of them.
#include <doctest/doctest.h>

#include <fstream>

#include "nn/encoders/encoder.h"
#include "support/media_files.h"
#include "support/models.h"
#include "support/scratch.h"
#include "train/trainer.h"

using namespace hone;
using namespace hone::test;

namespace {

// Six lines, of which the first `pairs` have an image and a sound, in turn in this order and the other.
struct Data {
  Scratch scratch;
  Config config = small_config();
  std::shared_ptr<SequenceReader> reader;

  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream(scratch / name, std::ios::binary) << bytes;
  }

  explicit Data(int pairs) {
    config.vocabulary = config.padded_vocabulary = 256;
    config.encoders = {"patches:2x3:GREY:8x9", "mel:4:8000:25/10:2"};
    std::string lines;
    for (int i = 0; i < 6; ++i) {
      write(fmt::format("{}.wav", i), noise_wav(400, static_cast<uint64_t>(i)));
      const std::string audio = fmt::format(R"({{"audio": "{}.wav"}})", i),
                        image = fmt::format(R"({{"image": "images#{}"}})", i);
      const std::string parts = i >= pairs ? image : i % 2 ? audio + ", " + image : image + ", " + audio;
      lines += fmt::format(R"({{"parts": [{}, {{"text": "="}}], "answer": "{}"}})"
                           "\n",
                           parts, i);
    }
    write("images", noise_idx(6));
    write("a.jsonl", lines);
    FeedSettings feed;
    feed.loss = LossRows::answers;
    reader = std::make_shared<SequenceReader>(read_examples({scratch / "a.jsonl"}),
                                              std::shared_ptr<const Tokenizer>(train_tokenizer({"bytes", 256}, {})),
                                              config, 64, feed);
  }
};

}  // namespace

TEST_CASE("the parts of a pair are rows that see nothing of each other") {
  const Data data(4);
  ExampleBatches plain(data.reader, 64, 1), paired(data.reader, 64, 1, std::pair<size_t, size_t>(0, 1));
  TrainingBatch before, batch;
  plain.next(6, before);
  paired.next(6, batch);
  CHECK(before.left.empty());
  REQUIRE(batch.left.size() == 4);
  REQUIRE(batch.right.size() == 4);
  // Of each pair one part begins its sequence and is read there; the other is there once more.
  CHECK(batch.spans.size() == before.spans.size() + 4);
  CHECK(batch.data_rows == batch.rows.input().size());
  CHECK(batch.targets.size() == static_cast<size_t>(batch.data_rows));
  CHECK(plain.state() == paired.state());

  // What stands at those rows is what a part gives alone.
  Transformer model(data.config);
  initialize(model, 3, 0.2);
  const NoTape pause;
  const Input input = batch.rows.input();
  const Tensor all = model.hidden(input, model.call(input, batch.spans, DType::f32)).value();
  int compared = 0;
  for (const MediaPart& part : input.parts)
    for (const auto* side : {&batch.left, &batch.right})
      for (const ops::PooledRows& rows : *side) {
        if (rows.first != part.row) continue;
        REQUIRE(rows.count == part.rows());
        JoinedInput alone;
        alone.add(input, part.row, part.rows());
        const Tensor own =
            model.hidden(alone.input(), model.call(alone.input(), {{0, 0, part.rows()}}, DType::f32)).value();
        const Tensor there = all.rows(rows.first, rows.count);
        for (int64_t i = 0; i < own.size(); ++i)
          CHECK(there.data<float>()[i] == doctest::Approx(own.data<float>()[i]).epsilon(1e-3));
        ++compared;
      }
  CHECK(compared == 8);
}

TEST_CASE("training draws the parts of pairs together, and a batch of one pair goes without") {
  for (const int pairs : {6, 1}) {
    Data data(pairs);
    Transformer model(data.config);
    initialize(model, 3);
    model.align({"image", "audio"}, ops::first_similarity_scale(ops::ContrastiveLoss::infonce));
    ExampleBatches batches(data.reader, 64, 1, std::pair<size_t, size_t>(0, 1));
    StepSettings settings;
    settings.batch = 6;
    settings.schedule = {&schedule_named("constant"), 1e-2, 0, 0, 150};
    settings.objectives.contrastive.weight = 1;
    Trainer trainer(model, batches, settings);
    std::vector<double> losses;
    for (int64_t step = 0; step < (pairs > 1 ? 150 : 5); ++step) {
      const StepResult result = trainer.step(step);
      CHECK(result.pairs == pairs);
      REQUIRE(result.terms.contains("contrastive") == (pairs > 1));
      if (pairs > 1) losses.push_back(result.terms.at("contrastive"));
    }
    if (pairs == 1) continue;
    CHECK(losses.front() > 1.5);  // of six, log 6 is chance
    CHECK(losses.back() < 0.5 * losses.front());
    CHECK(model.similarity_scale()->value.data<float>()[0] != doctest::Approx(-std::log(0.07)));
  }
}
