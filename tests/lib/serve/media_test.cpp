// Requests with images and sounds: what an engine writes is what is written alone, and nobody gets another's image.
#include <doctest/doctest.h>

#include <fstream>

#include "base/error.h"
#include "dataset/base64.h"
#include "lib/serve/engine_runs.h"
#include "media/sound.h"
#include "serve/batch_file.h"
#include "serve/openai.h"
#include "support/scratch.h"

using namespace hone;
using namespace hone::test;

namespace {

// Images of up to 8 x 12 patches, sounds.
Config media_config(const std::string& attention, bool both, ModalityExperts experts = ModalityExperts::none) {
  Config c = tiny(attention);
  c.encoders = {"patches:2x3:GREY:24x24", "mel:4:8000:25/10:2"};
  c.media_both_ways = both;
  if (experts != ModalityExperts::none) set_modality_experts(c, experts);
  return c;
}

// Features of 6 numbers a patch, 8 columns of patches; of 8 numbers a frame of a sound.
Features random_features(size_t encoder, int64_t rows, uint64_t seed) {
  Features f;
  f.width = encoder == 0 ? 6 : 8;
  f.columns = encoder == 0 ? 8 : 1;
  Random random(seed, "features");
  for (int64_t i = 0; i < rows * f.width; ++i) f.values.push_back(static_cast<float>(random.normal()));
  return f;
}

std::vector<int32_t> letters(int64_t length, uint64_t seed) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < length; ++i) ids.push_back(static_cast<int32_t>(1 + (seed * 37 + 11 * i) % 250));
  return ids;
}

// Beginnings with images of equal sizes, of which two are equal, across blocks and pages.
std::vector<PartRows> beginnings() {
  std::vector<PartRows> all(7);
  const Features large = random_features(0, 90, 1), other = random_features(0, 90, 2),
                 small = random_features(0, 13, 3), sound = random_features(1, 21, 4);
  all[0].add(0, large);
  all[1].add(0, other);
  for (PartRows* rows : {&all[2], &all[3]}) {
    rows->add(letters(30, 1));
    rows->add(0, rows == &all[2] ? large : other);
    rows->add(letters(20, 2));
  }
  all[4].add(letters(50, 1));
  all[4].add(0, small);
  all[4].add(1, sound);
  all[4].add(letters(70, 3));
  all[5] = all[4];
  all[5].add(1, random_features(1, 21, 5));
  all[6].add(letters(100, 3));
  return all;
}

void set_prompt(Request& request, const PartRows& rows, bool by_kind) {
  request.prompt = rows.ids;
  request.media = rows.parts.empty() ? nullptr : prompt_media(rows.ids, rows.parts, by_kind);
}

std::vector<Request> media_requests(uint64_t seed, int64_t count, const Config& config) {
  Random random(seed, "media");
  const std::vector<PartRows> starts = beginnings();
  std::vector<Request> all = growing_requests(seed);
  for (Request& r : random_requests(seed, count, 60)) {
    r.score_prompt = false;
    PartRows rows = starts[random.below(starts.size())];
    rows.add(letters(static_cast<int64_t>(random.below(40)), random.below(2)));
    set_prompt(r, rows, has_weights_by_kind(config));
    all.push_back(std::move(r));
  }
  return all;
}

void check_media(const Config& config, const EngineSettings& settings, uint64_t seed, const std::string& form = "") {
  Tiny t(config);
  struct OfLayers : Repack {
    using Repack::Repack;
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      if (info.role != Role::encoder) Repack::weight(info, weight);
    }
  } repack(form);
  if (!form.empty()) t.model.visit(repack);
  check_alike(t, settings, seed, media_requests(seed, 12, config), rounds_of(3, 1));
}

Completion completed(Engine& engine, const PartRows& rows) {
  Request r;
  r.tokens = 3;
  r.ignore_end = true;
  set_prompt(r, rows, false);
  Completion done;
  r.on_done = [&](const Completion& c) { done = c; };
  engine.submit(std::move(r));
  while (engine.step()) continue;
  return done;
}

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  } catch (const openai::Refusal& refused) {
    return refused.message;
  }
  return "";
}

std::string example_bytes(const std::string& name) {
  std::ifstream file(std::string(HONE_TEST_DATA) + "/media/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Config small_media() {
  Config c = tiny("full");
  c.encoders = {"patches:2x3:GREY:64x64", "mel:4:8000:25/10:2"};
  return c;
}

}  // namespace

TEST_CASE("a text with images and sounds does not depend on what is written beside it") {
  uint64_t seed = 40;
  for (const bool both : {false, true})
    for (const char* kind : {"full", "full,window:70:3"})
      for (const DType type : {DType::f32, DType::bf16})
        if (takes_turn(static_cast<int64_t>(++seed), 3)) {
          CAPTURE(both);
          CAPTURE(kind);
          CAPTURE(name_of(type));
          check_media(media_config(kind, both), of_type(type), seed);
        }
  check_media(media_config("routed:64:2", false), of_type(DType::bf16), 50);
  check_media(media_config("full,conv:4", false), of_type(DType::f32), 51);
}

TEST_CASE("nor with weights by kind, layers of encoders, packed weights and caches of few bits") {
  for (const DType type : {DType::f32, DType::bf16}) {
    check_media(media_config("full", true, ModalityExperts::all), of_type(type), 61);
    check_media(media_config("full,window:40", false, ModalityExperts::ffn), of_type(type), 62);
  }
  Config layered = media_config("full", true);
  layered.encoders[0] = "vit:2x3:1:GREY:24x24";
  check_media(layered, of_type(DType::f32), 63);
  check_media(media_config("full", true), of_type(DType::f32), 64, "int8");
  check_media(media_config("full", true, ModalityExperts::all), of_type(DType::f32), 65, "int4");
  check_media(media_config("full", true), of_type(DType::bf16, kernels::cache_code_named("int8")), 66, "int8 sparse");
}

TEST_CASE("beginnings with images are read once, whole images at a time, and only where the images are equal") {
  const Tiny t(media_config("full", true));
  const std::vector<PartRows> starts = beginnings();
  EngineSettings settings = of_type(DType::f32);
  settings.parallel = 1;
  const auto cached_behind = [&](const std::vector<PartRows>& prompts) {
    Engine engine(t.model, *byte_tokenizer(), settings);
    int64_t last = 0;
    for (const PartRows& rows : prompts) last = completed(engine, rows).cached_tokens;
    return last;
  };
  const auto longer = [](PartRows rows, int64_t more) {
    rows.add(letters(more, 9));
    return rows;
  };
  // 92 rows of an image, 20 of a text
  CHECK(cached_behind({longer(starts[0], 20), longer(starts[0], 20)}) == 96);
  CHECK(cached_behind({longer(starts[0], 20), longer(starts[1], 20)}) == 0);
  CHECK(cached_behind({starts[0], starts[0]}) == 0);  // the last row is read, and the image with it
  // 30 tokens, an image up to 122, 20 more
  CHECK(cached_behind({starts[2], longer(starts[2], 5)}) == 128);
  CHECK(cached_behind({starts[2], starts[3]}) == 16);
  PartRows plain;  // 50 tokens, behind which another prompt has an image
  plain.add(letters(50, 1));
  CHECK(cached_behind({longer(plain, 20), starts[4]}) == 48);
  // The same image for another encoder, or cut into other columns, is another.
  PartRows other = starts[0];
  other.parts[0].features.columns = 9;
  CHECK(prompt_media(starts[0].ids, starts[0].parts, false)->digest() !=
        prompt_media(other.ids, other.parts, false)->digest());
}

TEST_CASE("pages of media are found up to the last cut that divides none") {
  Pages pages(4, 64);
  const PartRows rows = beginnings()[2];  // an image from row 30 to 122
  const auto media = prompt_media(rows.ids, rows.parts, false);
  const std::span<const int32_t> keys = media->keys;
  int32_t first = *pages.take(), second = *pages.take();
  pages.insert(pages.insert(Pages::root, keys.first(64), first), keys.subspan(64, 64), second);
  const auto found = [&](const Input& prompt, int64_t most) {
    const Pages::Hit hit = pages.find(prompt, most, false);
    for (const int32_t page : hit.pages) pages.release(page);
    if (hit.partial >= 0) pages.release(hit.partial);
    CHECK(hit.tokens == 64 * static_cast<int64_t>(hit.pages.size()) + hit.partial_rows);
    return hit.tokens;
  };
  CHECK(found(Input(keys, media->parts), 128) == 128);
  CHECK(found(Input(keys, media->parts), 112) == 16);  // within the image
  CHECK(found(Input(keys), 112) == 112);
  CHECK(pages.find(Input(keys, media->parts), 64, true).in_tree == 0);
}

TEST_CASE("requests with media that cannot be are refused") {
  const Tiny t(media_config("full", true));
  EngineSettings settings = of_type(DType::f32);
  Engine engine(t.model, *byte_tokenizer(), settings);
  Request r;
  set_prompt(r, beginnings()[0], false);
  r.score_prompt = true;
  CHECK(message_of([&] { engine.check(r); }).find("cannot be scored") != std::string::npos);
  r.score_prompt = false;
  r.tokens = 400;
  CHECK(message_of([&] { engine.check(r); }).find("a prompt of 92 tokens and 400 more") != std::string::npos);
}

TEST_CASE("parts of a request over HTTP hold their files, in OpenAI's form and in that of lines") {
  const Config config = small_media();
  const PromptReader prompts(config, *byte_tokenizer(), 200);
  const auto read = [&](const std::string& parts) {
    return openai::read_completions(R"({"parts": )" + parts + "}", "m", *byte_tokenizer(), prompts, 1);
  };
  const std::string image = "data:image/png;base64," + to_base64(example_bytes("a.png")),
                    sound = to_base64(example_bytes("a.wav"));
  const auto one = read(R"([{"type": "text", "text": "ab"}, {"type": "image_url", "image_url": {"url": ")" + image +
                        R"("}}, {"type": "input_audio", "input_audio": {"data": ")" + sound +
                        R"(", "format": "wav"}}, {"type": "text", "text": "="}])");
  const auto two = read(R"([{"text": "ab"}, {"image": ")" + image + R"("}, {"audio": "data:;base64,)" + sound +
                        R"("}, {"text": "="}])");
  REQUIRE(one.tokens.size() == 1);
  REQUIRE(one.all.media);
  CHECK(one.prompts[0] == "ab=");
  CHECK(one.all.media->parts.size() == 2);
  CHECK(one.all.media->parts[0].row == 2);
  CHECK(one.tokens[0].size() ==
        static_cast<size_t>(3 + one.all.media->parts[0].rows() + one.all.media->parts[1].rows()));
  CHECK(one.tokens == two.tokens);
  CHECK(one.all.media->digest() == two.all.media->digest());
  CHECK(one.requests()[0].media == one.all.media);
  // Schemes of URLs have no case, and base64 may come in lines.
  std::string in_lines = sound;
  for (size_t at = 76; at < in_lines.size(); at += 80) in_lines.insert(at, "\\r\\n");
  const auto three = read(R"([{"text": "ab"}, {"image": "DATA:image/png;BASE64,)" + image.substr(image.find(',') + 1) +
                          R"("}, {"audio": "data:;base64,)" + in_lines + R"("}, {"text": "="}])");
  CHECK(three.all.media->digest() == one.all.media->digest());
  // As files are: one decoding.
  Request of_files;
  const std::string folder = std::string(HONE_TEST_DATA) + "/media/";
  PromptReader(config, *byte_tokenizer(), 200)
      .read(std::vector<ExamplePart>{{nullptr, "ab"},
                                     {&media::image_medium, folder + "a.png"},
                                     {&media::sound_medium, folder + "a.wav"},
                                     {nullptr, "="}},
            of_files);
  CHECK(of_files.media->digest() == one.all.media->digest());
  CHECK(read(R"([{"text": "a"}, {"text": "b"}])").tokens[0] == std::vector<int32_t>{'a', 'b'});

  const auto refused = [&](const std::string& parts) { return message_of([&] { read(parts); }); };
  const auto has = [](const std::string& all, const char* words) {
    CAPTURE(all);
    CHECK(all.find(words) != std::string::npos);
  };
  for (const char* path :
       {"/etc/passwd", "a.png", "file:///etc/passwd", "http://127.0.0.1/a.png", "data:image/png,abc"}) {
    has(refused(fmt::format(R"([{{"image": "{}"}}])", path)), "opens no files and fetches nothing");
    has(refused(fmt::format(R"([{{"image_url": {{"url": "{}"}}}}])", path)), "'parts[0].image_url.url' is no URL");
  }
  has(refused("[]"), "'parts' is a list of up to 1024");
  has(refused("{}"), "'parts' is a list of up to 1024");
  has(refused("[1]"), "'parts[0]' is no object");
  has(refused(R"([{"text": "a"}, {"video": "b"}])"), "'parts[1]' must have one of 'text', 'image_url', 'input_audio'");
  has(refused(R"([{"type": "text"}])"), "'parts[0]' must have one of");
  has(refused(R"([{"text": "a", "image": "b"}])"), "and nothing else");
  has(refused(R"([{"type": "image_url", "text": "b"}])"), "has the type \"image_url\"");
  has(refused(R"([{"text": 1}])"), "'parts[0].text' is a text");
  has(refused(R"([{"input_audio": "AAAA"}])"), "is an object with 'data'");
  has(refused(R"([{"input_audio": {"format": "wav"}}])"), "has no 'data'");
  has(refused(R"([{"input_audio": {"data": "a", "format": "wav"}}])"), "'parts[0].input_audio.data' is no base64");
  has(refused(R"([{"image_url": {"url": "data:;base64,AAAA", "path": "a"}}])"), "no 'parts[0].image_url.path'");
  has(refused(R"([{"image": "data:;base64,AAAA"}])"), "parts[0] is neither a PNG nor a JPEG");
  has(refused(R"([{"audio": "data:;base64,AAAA"}])"), "parts[0] is no sound that can be read");
  has(message_of([&] {
        openai::read_completions(R"({"prompt": "a", "parts": [{"text": "b"}]})", "m", *byte_tokenizer(), prompts, 1);
      }),
      "in the place of a 'prompt'");
  has(message_of([&] {
        openai::read_completions(R"({"echo": true, "parts": [{"image": ")" + image + R"("}]})", "m", *byte_tokenizer(),
                                 prompts, 1);
      }),
      "'echo'");
  const PromptReader deaf(tiny("full"), *byte_tokenizer(), 200), narrow(config, *byte_tokenizer(), 3);
  has(message_of([&] {
        openai::read_completions(R"({"parts": [{"image": ")" + image + R"("}]})", "m", *byte_tokenizer(), deaf, 1);
      }),
      "parts[0] is of a kind, image, that the model has no encoder for");
  try {
    openai::read_completions(R"({"parts": [{"image": ")" + image + R"("}]})", "m", *byte_tokenizer(), narrow, 1);
    FAIL("taken");
  } catch (const openai::Refusal& refused_rows) {
    CHECK(refused_rows.code == "context_length_exceeded");
  }
}

TEST_CASE("a sound in a request is decoded as far as there may be rows of it") {
  const PromptReader narrow(small_media(), *byte_tokenizer(), 4);
  Request r;
  ExamplePart part{&media::sound_medium, "parts[0]"};
  part.bytes = std::make_shared<const std::string>(example_bytes("a.wav"));
  CHECK(message_of([&] {
          narrow.read({&part, 1}, r);
        }) == "parts[0] lasts longer than 0.115 seconds: cut it into parts; there may be 4 rows of text and media");
  CHECK_THROWS_AS(narrow.read({&part, 1}, r), TooManyRows);
}

TEST_CASE("lines of requests have parts whose paths are relative to their file") {
  const Scratch scratch;
  std::ofstream(scratch / "a.png", std::ios::binary) << example_bytes("a.png");
  const Config config = small_media();
  const PromptReader prompts(config, *byte_tokenizer(), INT64_MAX);
  const std::string lines =
      "{\"parts\": [{\"image\": \"a.png\"}, {\"text\": \"=\"}]}\n"
      "{\"parts\": [{\"text\": \"=\"}]}\n{\"parts\": [{\"image\": \"none.png\"}]}\n"
      "{\"prompt\": \"a\", \"parts\": [{\"text\": \"=\"}]}\n{\"id\": 4}\n{\"parts\": [{\"image\": \"a.png#0..3\"}]}\n"
      "{\"parts\": [{\"image\": 3}]}\n";
  std::ofstream(scratch / "in.jsonl") << lines;
  const FileText file = read_file_text(scratch / "in.jsonl");
  const std::vector<BatchLine> all =
      read_batch(file, std::filesystem::path(scratch / "in.jsonl").parent_path(), *byte_tokenizer(), prompts, {});
  REQUIRE(all.size() == 7);
  CHECK(all[0].error == "");
  REQUIRE(all[0].parts.size() == 2);
  CHECK(!all[0].request.media);  // until its turn comes
  CHECK(!all[0].media.empty());
  Request r;
  prompts.read(all[0].parts, r);
  CHECK(r.prompt == all[0].request.prompt);
  CHECK(r.media->digest() == all[0].media);
  CHECK(all[1].request.prompt == std::vector<int32_t>{'='});
  CHECK(all[1].parts.empty());
  CHECK(all[2].error.find("none.png' does not exist") != std::string::npos);
  CHECK(all[3].error.find("give one of them") != std::string::npos);
  CHECK(all[4].error.find("no \"prompt\", and no \"parts\"") != std::string::npos);
  CHECK(all[5].error.find("a.png#0..3' stands for several lines") != std::string::npos);
  CHECK(all[6].error.find("part 1 must have one string") != std::string::npos);
}
