#include "overview/page.h"

#include <doctest/doctest.h>

#include "base/atomic_file.h"
#include "overview/html.h"
#include "overview/sections.h"
#include "support/failure.h"
#include "support/scratch.h"

using namespace hone;
using namespace hone::test;

namespace {

using nlohmann::json;

json score(const std::string& model, double bytes, double loss, double context = 32) {
  return {{"model", model},  {"file_bytes", bytes}, {"loss", loss},
          {"accuracy", 0.5}, {"data", "t.txt"},     {"context", context}};
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("text is escaped wherever it stands") {
  CHECK(html_escaped("<b a=\"1\" c='2'>&\x01\t") == "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;  ");
  const std::string evil = "</title><script>alert(1)</script>";
  CHECK(!has(html_page(evil, evil, ""), "<script"));
  CHECK(!has(html_table({evil}, {{{.text = evil, .note = evil, .code = true}}}), "<script"));
  CHECK(!has(html_figure({.title = evil, .x = {.label = evil}, .series = {{.name = evil, .x = {1, 2}, .y = {1, 2}}}}),
             "<script"));
}

TEST_CASE("scores are compared where they were made alike, with the first of all") {
  RunFiles files;
  json small = score("b/small.h5", 1e6, 1.51);
  small["loss_difference_low"] = 0.005;
  small["loss_difference_high"] = 0.015;
  small["baseline"] = "a/dense.h5";
  json dense = score("a/dense.h5", 6e6, 1.5);
  dense["baseline"] = "a/dense.h5";
  files.scores = {{"s.json", {small, dense, score("a/dense.h5", 6e6, 1.4, 64)}}, {"again.json", {small}}};
  const auto groups = comparable_scores(files);
  REQUIRE(groups.size() == 2);
  CHECK(groups[0].protocol == "t.txt, context 32");
  REQUIRE(groups[0].rows.size() == 2);
  CHECK(text_of(groups[0].rows[0], "model") == "a/dense.h5");  // the baseline
  const std::string table = scores_section(files);
  CHECK(has(table, "÷6.00"));
  CHECK(has(table, "+0.0100\n(+0.0050 to +0.0150)"));
  CHECK(has(table, "+0.00 points"));
  CHECK(has(glance_section(files), "6.00 MB → 1.00 MB"));
  CHECK(has(glance_section(files), "6.00 times smaller"));
  CHECK(has(table, "<svg"));
  CHECK(glance_section({}).empty());
  CHECK(scores_section({}).empty());
}

TEST_CASE("a chain of files is found by their hashes, and the end of each is shown") {
  RunFiles files;
  const json first = {
      {"tool", "train"}, {"version", "1"}, {"arguments", {"--data", "<x>"}}, {"results", {{"loss", 1.25}}}};
  const json second = {{"tool", "prune"}, {"parent_sha256", "aa"}, {"arguments", {"a.h5", "--sparsity", "60%"}}};
  files.models = {{"a.h5", "aa", 100, false, 2, 32, 64, json::array({first})},
                  {"b.h5", "bb", 90, false, 2, 32, 64, json::array({first, second})}};
  const std::string text = lineage_section(files);
  CHECK(has(text, "<h3>b.h5</h3>"));
  CHECK(!has(text, "<h3>a.h5</h3>"));
  CHECK(has(text, "train --data &lt;x&gt;"));
  CHECK(has(text, "loss 1.25"));
  CHECK(has(text, ">a.h5<"));  // what the first stage made
  CHECK(stages_of(files, {{"model", "x/b.h5"}, {"file_bytes", 90}}) == "train → prune 60%");
  CHECK(stages_of(files, {{"model", "x/b.h5"}, {"file_bytes", 91}}).empty());
}

TEST_CASE("files are known by what is in them") {
  const Scratch scratch;
  const auto write = [&](const char* name, const std::string& text) { write_text_file(scratch / name, text); };
  write("log.jsonl", "{\"step\":1,\"loss\":2.5}\n{\"step\":2,\"loss\":2.25,\"valid_loss\":2.5}\n{\"step\":3,\"lo");
  write("eval.json", "{\"schema_version\":1,\"rows\":[" + score("m", 1, 2).dump() + "]}");
  write("bench.jsonl", "{\"model\":\"m\",\"repeat\":3,\"prompt\":8,\"prefill_tokens_per_second\":5}\n");
  write("corpus.jsonl", "{\"text\":\"x\"}\n{\"text\":\n");
  write("tokenizer.json", "{\"model\":{}}");
  write("notes.txt", "no");
  const std::string folder = (scratch / "");
  const RunFiles files = read_run_files({folder});
  REQUIRE(files.logs.size() == 1);
  CHECK(files.logs[0].lines.size() == 2);
  CHECK(files.scores.size() == 1);
  CHECK(files.speeds.size() == 1);
  CHECK(files.unused.size() == 2);
  CHECK(overview_page(files, "t") == overview_page(files, "t"));

  const auto refused = [&](const char* name, const std::string& text) {
    write(name, text);
    CHECK(kind_of_failure([&] { read_run_files({scratch / name}); }) == ErrorKind::input);
  };
  refused("mixed.jsonl", "{\"step\":1,\"loss\":2}\n" + score("m", 1, 2).dump() + "\n");
  refused("broken.jsonl", "{\"step\":1,\"loss\":2}\n{\"step\":\n{\"step\":3,\"loss\":2}\n");
  refused("other.json", "{\"a\":1}");
  refused("number.json", "7");
  refused("list.json", "[1,2]");
  refused("empty.json", "");
  refused("bytes.json", "\xff\xfe");
  CHECK(kind_of_failure([&] { read_run_files({scratch / "none"}); }) == ErrorKind::input);
}

TEST_CASE("numbers that are missing, null or of another kind leave gaps") {
  RunFiles files;
  files.logs = {
      {"l.jsonl",
       {{{"step", 1}, {"loss", nullptr}}, {{"step", 2}, {"loss", 2.0}, {"routing", 7}, {"terms", {{"a", "x"}}}}}}};
  files.scores = {{"s",
                   {{{"model", 5}, {"loss", nullptr}, {"file_bytes", nullptr}, {"expert_load_0", {1, "x"}}},
                    {{"model", "b"}, {"loss", 1.0}, {"file_bytes", 0}, {"expert_load_0", json::array()}}}}};
  files.speeds = {
      {"b", {{{"model", "a"}, {"repeat", 1}, {"prompt", nullptr}}, {{"model", "a"}, {"repeat", 1}, {"prompt", 8}}}}};
  files.models = {
      {"m.h5", "aa", 1, false, 1, 1, 1, json::array({7, {{"tool", 8}, {"arguments", 9}, {"results", 10}}})}};
  const std::string page = overview_page(files, "t");
  CHECK(has(page, "</html>"));
  CHECK(!has(page, "nan"));
}
