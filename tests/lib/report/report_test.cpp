#include "report/report.h"

#include <doctest/doctest.h>

#include <clocale>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/version.h"
#include "report/printers.h"

using namespace hone;

namespace {

const double nan = std::numeric_limits<double>::quiet_NaN();

Report sample() {
  Report report;
  report.add(Row().set("model", "dense.h5").set("file_bytes", 42700000).set("loss", 1.4697).set("accuracy", 0.5625));
  report.add(Row().set("model", "a,\"b\"|c.h5").set("loss", nan).set("seed", 1234567));
  report.common().set("threads", 2).set("isa", "avx2");
  return report;
}

}  // namespace

TEST_CASE("table: aligned, numbers to the right, units for people, what is common once below") {
  CHECK(render(sample(), Format::table) ==
        "model       file_bytes    loss  accuracy     seed\n"
        "dense.h5       42.7 MB  1.4697    56.25%\n"
        "a,\"b\"|c.h5                 nan            1234567\n"
        "threads 2, isa avx2\n");
}

TEST_CASE("md: a GitHub table with pipes escaped") {
  CHECK(render(sample(), Format::md) ==
        "| model | file_bytes | loss | accuracy | seed |\n"
        "|---|---:|---:|---:|---:|\n"
        "| dense.h5 | 42.7 MB | 1.4697 | 56.25% |  |\n"
        "| a,\"b\"\\|c.h5 |  | nan |  | 1234567 |\n"
        "\nthreads 2, isa avx2\n");
}

TEST_CASE("csv: RFC 4180 quoting, every column in every row, empty where a cell is missing") {
  const std::string v = version();
  CHECK(render(sample(), Format::csv) ==
        "schema_version,model,file_bytes,loss,accuracy,seed,threads,isa,version\n"
        "1,dense.h5,42700000,1.4697,0.5625,,2,avx2," +
            v + "\n" + "1,\"a,\"\"b\"\"|c.h5\",,nan,,1234567,2,avx2," + v + "\n");
  Report lines;
  lines.add(Row().set("text", "two\nlines"));
  CHECK(render(lines, Format::csv) == "schema_version,text,version\n1,\"two\nlines\"," + v + "\n");
}

TEST_CASE("json: one object with schema_version, version and rows; keys in order; NaN is null") {
  const std::string text = render(sample(), Format::json);
  const auto json = nlohmann::ordered_json::parse(text);
  CHECK(json["schema_version"] == report_schema_version);
  CHECK(json["version"] == version());
  REQUIRE(json["rows"].size() == 2);
  CHECK(
      json["rows"][0].dump() ==
      R"({"model":"dense.h5","file_bytes":42700000,"loss":1.4697,"accuracy":0.5625,"seed":null,"threads":2,"isa":"avx2"})");
  CHECK(json["rows"][1]["loss"].is_null());
  CHECK(json["rows"][1]["file_bytes"].is_null());
  CHECK(text.back() == '\n');
}

TEST_CASE("jsonl: one object a line, each whole in itself") {
  const std::string text = render(sample(), Format::jsonl);
  const size_t end = text.find('\n');
  CHECK(nlohmann::ordered_json::parse(text.substr(0, end)).dump() ==
        R"({"schema_version":1,"model":"dense.h5","file_bytes":42700000,"loss":1.4697,"accuracy":0.5625,)"
        R"("seed":null,"threads":2,"isa":"avx2","version":")" +
            std::string(version()) + "\"}");
  CHECK(nlohmann::json::parse(text.substr(end + 1))["seed"] == 1234567);
}

TEST_CASE("doubles survive JSON and CSV exactly") {
  Report report;
  for (const double x : {0.1, 1.0 / 3, 1e-300, 123456789.123456789, -0.0, 5e15}) {
    Report one;
    one.add(Row().set("x", x));
    CHECK(nlohmann::json::parse(render(one, Format::json))["rows"][0]["x"].get<double>() == x);
    const std::string csv = render(one, Format::csv);
    const size_t start = csv.find('\n') + 3;
    CHECK(std::stod(csv.substr(start, csv.find(',', start) - start)) == x);
  }
}

TEST_CASE("text that is not UTF-8 and control characters do not break a format") {
  Report report;
  report.add(Row().set("model", "a\xff\x1b[31m\n.h5").set("loss", 1.0));
  CHECK(nlohmann::json::parse(render(report, Format::json))["rows"][0]["model"] == "a\xef\xbf\xbd\x1b[31m\n.h5");
  for (const Format format : {Format::table, Format::md}) {
    const std::string text = render(report, format);
    CHECK(text.find('\x1b') == std::string::npos);
    CHECK(text.find("a\xff [31m .h5") != std::string::npos);
  }
}

TEST_CASE("a wide report is turned in the table and stays in rows elsewhere") {
  Report report;
  for (const char* model : {"dense.h5", "small.h5"}) {
    Row row;
    row.set("model", model);
    for (int i = 0; i < 20; ++i) row.set("quantity_" + std::to_string(i), i + 0.5);
    report.add(row);
  }
  const std::string table = render(report, Format::table);
  CHECK(table.find("model        dense.h5  small.h5\nquantity_0     0.5000    0.5000\n") == 0);
  CHECK(render(report, Format::md).find("| model | quantity_0 |") == 0);
}

TEST_CASE("a wide report is not turned where that would make it wider") {
  Report report;
  const std::string name = "blocks.0.feed_forward.gate_up.";
  for (int r = 0; r < 8; ++r) {
    Row row;
    row.set("parameter", name + std::to_string(r));
    for (int i = 0; i < 9; ++i) row.set("quantity_" + std::to_string(i), i + 0.5);
    report.add(row);
  }
  const std::string table = render(report, Format::table);  // 8 names side by side are wider than 9 of columns
  CHECK(table.find("parameter                        quantity_0") == 0);
  CHECK(table.find(name + "7 ") != std::string::npos);
}

TEST_CASE("long texts are cut in a table that is too wide, at a character, and whole elsewhere") {
  std::string start = "grün ";
  start.append(40, 'x').append(" ä");
  const std::string text = start + std::string(100, 'y');
  Report report;
  for (int i = 0; i < 3; ++i) report.add(Row().set("model", "m").set("form", text));
  const std::string table = render(report, Format::table);
  CHECK(table.find(start + "…\n") != std::string::npos);
  CHECK(render(report, Format::md).find(text) != std::string::npos);
  Report narrow;
  narrow.add(Row().set("model", "m").set("form", text.substr(0, 100)));
  CHECK(render(narrow, Format::table).find(text.substr(0, 100)) != std::string::npos);
}

TEST_CASE("columns of a comparison: ends of intervals only where programs read") {
  Scores a, b;
  a.add({.loss = 3.1, .correct = 1, .tokens = 2, .bytes = 3});
  a.add({.loss = 4.2, .correct = 1, .tokens = 2, .bytes = 3});
  b.add({.loss = 3, .correct = 2, .tokens = 2, .bytes = 3});
  b.add({.loss = 4, .correct = 1, .tokens = 2, .bytes = 3});
  const Comparison comparison = compare(a, b);
  Report report;
  report.add(Row().set("model", "m").set_comparison(comparison));
  const std::string table = render(report, Format::table), csv = render(report, Format::csv);
  CHECK(table.find("loss_ratio") != std::string::npos);
  CHECK(table.find("_low") == std::string::npos);
  CHECK(table.find("kl") == std::string::npos);  // no divergences were given
  CHECK(csv.find("loss_ratio,loss_ratio_low,loss_ratio_high") != std::string::npos);
  MetricValues values;
  add_comparison(values, comparison);
  CHECK(values.at("loss_ratio") == doctest::Approx(7.3 / 7));
  report.show_detail("loss_ratio");
  report.show("loss_difference", Display::fixed, 1);
  CHECK(render(report, Format::table).find("loss_ratio") == std::string::npos);
}

TEST_CASE("numbers for people") {
  const auto text = [](double x, Display display, int digits) { return text_for_people(x, display, digits); };
  CHECK(text(12.345, Display::plain, 3) == "12.3");
  CHECK(text(9.9996, Display::plain, 4) == "10.00");
  CHECK(text(0.00123, Display::plain, 2) == "0.0012");
  CHECK(text(1234.5, Display::plain, 3) == "1234");
  CHECK(text(3.2e-7, Display::plain, 2) == "3.2e-07");
  CHECK(text(0, Display::plain, 4) == "0");
  CHECK(text(0.6, Display::fraction, 1) == "60.0%");
  CHECK(text(-1234567.4, Display::whole, 0) == "-1,234,567");
  CHECK(text(10.7e6, Display::count, 0) == "10.7M");
  CHECK(text(std::numeric_limits<double>::infinity(), Display::plain, 3) == "inf");
  CHECK(text_for_people(int64_t{999}, Display::plain, 3) == "999");
  CHECK(text_for_people(std::vector<int64_t>{4, 2}, Display::plain, 3) == "4 2");
  CHECK(text_for_people(int64_t{-1000}, Display::plain, 3) == "-1000");
  CHECK(text_for_people(int64_t{-1000}, Display::whole, 3) == "-1,000");
  CHECK(text_for_people(int64_t{100000}, Display::whole, 3) == "100,000");
  CHECK(text_for_people(int64_t{1000}, Display::bytes, 3) == "1.00 kB");
}

TEST_CASE("formats go by name, an unknown one is a usage error that lists them") {
  CHECK(format_named("table") == Format::table);
  CHECK(format_named("jsonl") == Format::jsonl);
  CHECK(format_named("md") == Format::md);
  try {
    format_named("xml");
    FAIL("nothing was thrown");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
    CHECK(std::string(error.what()) == "unknown format 'xml'; use table, json, jsonl, csv or md");
  }
}

TEST_CASE("an empty report is still whole in every format") {
  const Report report;
  CHECK(render(report, Format::table).empty());
  CHECK(render(report, Format::jsonl).empty());
  CHECK(render(report, Format::csv) == "schema_version,version\n");
  CHECK(nlohmann::json::parse(render(report, Format::json))["rows"].empty());
}

TEST_CASE("a report keeps its rows when it is copied and moved") {
  Report first = sample();
  const std::string before = render(first, Format::csv);
  Report copy = first, moved = std::move(first);
  copy.add(Row().set("model", "third"));
  CHECK(render(moved, Format::csv) == before);
  CHECK(copy.size() == 3);
}

TEST_CASE("no locale changes a report") {
  const std::string before = render(sample(), Format::csv) + render(sample(), Format::table);
  const std::string old = std::setlocale(LC_ALL, nullptr);
  for (const char* name : {"de_DE.UTF-8", "fr_FR.UTF-8", "C.UTF-8"})
    std::setlocale(LC_ALL, name);  // those installed apply
  CHECK(render(sample(), Format::csv) + render(sample(), Format::table) == before);
  std::setlocale(LC_ALL, old.c_str());
}

TEST_CASE("fixed columns of CSV stand in their order, with and without values; those of single layers stay away") {
  Report report;
  Row row;
  row.set("late", 3).set("b", 2).set("expert_load_0", 0.5);
  report.add(row);
  report.common().set("a", 1);
  report.fix_csv({"a", "b", "c"});
  CHECK(render(report, Format::csv).starts_with("schema_version,a,b,c,late,version\n1,1,2,,3,"));
  CHECK(render(report, Format::jsonl).find("expert_load_0") != std::string::npos);
  Report plain;
  plain.add(row);
  CHECK(render(plain, Format::csv).starts_with("schema_version,late,b,expert_load_0,version\n"));
}
