#include "c/hone.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <thread>

#include "base/version.h"
#include "dataset/tokenizer.h"
#include "model/session.h"
#include "model/store.h"
#include "support/models.h"
#include "support/scratch.h"

using namespace hone;
using namespace hone::test;

namespace {

// Bytes as tokens; in `path`.
Model written(const std::string& path, PositionKind positions = positions_named("rotary")) {
  Config config = small_config();
  config.vocabulary = config.padded_vocabulary = 256;
  config.block.positions = positions;
  Model model;
  model.transformer = std::make_unique<Transformer>(config);
  initialize(*model.transformer, 1, 0.2);
  model.tokenizer = byte_tokenizer()->to_json();
  save_model(path, model, false);
  return model;
}

constexpr char words[] = "the river follows";
const std::vector<int32_t> ids(words, words + sizeof words - 1);

std::vector<float> fed(const hone_model* model, std::vector<size_t> pieces) {
  std::vector<float> row(256);
  hone_session* session = hone_begin(model, static_cast<int64_t>(ids.size()));
  const int32_t* next = ids.data();
  for (const size_t piece : pieces) {
    REQUIRE(hone_feed(session, next, static_cast<int64_t>(piece), row.data()) == 0);
    next += piece;
  }
  CHECK(hone_length(session) == next - ids.data());
  hone_end(session);
  return row;
}

}  // namespace

TEST_CASE("C: logits are those of the session, after one call or several, and behind every token") {
  const Scratch scratch;
  const Model known = written(scratch / "m.h5");
  Session session(*known.transformer, {1, 32});
  const Tensor last = session.feed(ids);
  const std::vector<float> expected(last.span<float>().begin(), last.span<float>().end());

  hone_model* model = hone_load((scratch / "m.h5").c_str());
  REQUIRE(model);
  CHECK(hone_vocabulary(model) == 256);
  CHECK(hone_context(model) == 96);
  CHECK(std::string(hone_version()) == version());
  CHECK(fed(model, {ids.size()}) == expected);
  const std::vector<float> pieces = fed(model, {5, 1, ids.size() - 6});
  for (size_t i = 0; i < pieces.size(); ++i) CHECK(pieces[i] == doctest::Approx(expected[i]).epsilon(1e-4));

  hone_session* all = hone_begin(model, 40);
  std::vector<float> rows(ids.size() * 256);
  REQUIRE(hone_feed_all(all, ids.data(), static_cast<int64_t>(ids.size()), rows.data()) == 0);
  CHECK(std::equal(expected.begin(), expected.end(), rows.end() - 256));
  CHECK(hone_restart(all) == 0);
  CHECK(hone_length(all) == 0);
  std::vector<float> again(256);
  hone_free(model);  // the session lives on
  REQUIRE(hone_feed(all, ids.data(), static_cast<int64_t>(ids.size()), again.data()) == 0);
  CHECK(again == expected);
  hone_end(all);
}

TEST_CASE("C: texts become tokens and come back, in as much room as there is") {
  const Scratch scratch;
  written(scratch / "m.h5");
  hone_model* model = hone_load((scratch / "m.h5").c_str());
  const auto count = static_cast<int64_t>(ids.size());
  CHECK(hone_encode(model, words, std::strlen(words), nullptr, 0) == count);
  std::vector<int32_t> room(ids.size() + 2, -1);
  CHECK(hone_encode(model, words, std::strlen(words), room.data(), 4) == count);
  CHECK(room[3] == ids[3]);
  CHECK(room[4] == -1);
  CHECK(hone_encode(model, nullptr, 0, nullptr, 0) == 0);
  std::string text(ids.size(), '?');
  CHECK(hone_decode(model, ids.data(), count, text.data(), count) == count);
  CHECK(text == words);
  hone_free(model);
}

TEST_CASE("C: what fails says why, and nothing is thrown") {
  const Scratch scratch;
  CHECK(hone_load((scratch / "none.h5").c_str()) == nullptr);
  CHECK(std::string(hone_error()).find("none.h5") != std::string::npos);
  CHECK(hone_load(nullptr) == nullptr);
  CHECK(std::string(hone_error()) == "the path is NULL");
  CHECK(hone_vocabulary(nullptr) == HONE_USAGE);
  CHECK(hone_length(nullptr) == HONE_USAGE);
  CHECK(hone_begin(nullptr, 4) == nullptr);
  CHECK(hone_set_threads(0) == HONE_USAGE);
  hone_free(nullptr);
  hone_end(nullptr);

  written(scratch / "m.h5");
  hone_model* model = hone_load((scratch / "m.h5").c_str());
  CHECK(hone_begin(model, 0) == nullptr);
  hone_session* session = hone_begin(model, 4);
  std::vector<float> row(256);
  CHECK(hone_feed(session, ids.data(), 5, row.data()) == HONE_USAGE);
  CHECK(std::string(hone_error()).find("capacity of 4") != std::string::npos);
  CHECK(hone_feed(session, ids.data(), 0, row.data()) == HONE_USAGE);
  CHECK(hone_feed(session, ids.data(), 2, nullptr) == HONE_USAGE);
  CHECK(hone_feed(session, nullptr, 2, row.data()) == HONE_USAGE);
  const int32_t outside[] = {1, 256};
  CHECK(hone_feed(session, outside, 2, row.data()) == HONE_USAGE);
  CHECK(hone_length(session) == 0);
  CHECK(hone_feed(session, ids.data(), 4, row.data()) == 0);
  CHECK(hone_encode(model, words, 3, nullptr, -1) == HONE_USAGE);
  hone_end(session);
  hone_free(model);

  written(scratch / "learned.h5", positions_named("learned"));
  model = hone_load((scratch / "learned.h5").c_str());
  CHECK(hone_begin(model, 97) == nullptr);
  CHECK(std::string(hone_error()).find("96 learned positions") != std::string::npos);
  hone_free(model);
}

TEST_CASE("C: threads share a model, and each has its own error") {
  const Scratch scratch;
  written(scratch / "m.h5");
  hone_model* model = hone_load((scratch / "m.h5").c_str());
  const std::vector<float> expected = fed(model, {ids.size()});
  std::vector<std::vector<float>> found(3);
  std::vector<std::string> errors(3);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < found.size(); ++i)
    threads.emplace_back([&, i] {
      hone_begin(model, -static_cast<int64_t>(i));
      found[i] = fed(model, {ids.size()});
      errors[i] = hone_error();
    });
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < found.size(); ++i) {
    CHECK(found[i] == expected);
    CHECK(errors[i].find("room for " + std::string(i ? "-" : "") + std::to_string(i)) == 0);
  }
  hone_free(model);
}
