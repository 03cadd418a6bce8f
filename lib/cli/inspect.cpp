#include "cli/inspect.h"

#include <optional>

#include "base/error.h"
#include "base/log.h"
#include "base/program.h"
#include "cli/effects.h"
#include "cli/tool.h"
#include "dataset/text_file.h"
#include "dataset/tokenizer_file.h"
#include "inspect/compare.h"
#include "inspect/model.h"
#include "report/report.h"

namespace hone::cli {
namespace {

struct InspectOptions {
  std::string model, other, format = "table";
  std::optional<std::string> tokenize;
  bool special = false;
  const CLI::App* app = nullptr;

  void add(CLI::App& options) {
    app = &options;
    options
        .add_option("MODEL", model,
                    "Model file, or checkpoint of a run; with --tokenize also a tokenizer.json or tokenizer.model")
        ->required();
    options.add_option("OTHER", other, "Second file: what differs is shown instead");
    auto* tokens = options.add_option_group("Tokens");
    tokens->add_option("--tokenize", tokenize, "Show the tokens of this text instead (-: of standard input)")
        ->type_name("TEXT");
    tokens->add_flag("--special", special, "Special tokens where the text spells them, and around it");
    auto* report = options.add_option_group("Report");
    report->add_option("--format", format, "table, json, csv (the parameters or differences alone) or md")
        ->check(one_of({"table", "json", "csv", "md"}));
  }
};

std::string describe_one(const InspectedModel& model, const std::string& format) {
  // Text in a file need not be UTF-8, JSON must be.
  if (format == "json") return to_json(model).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  if (format == "csv") return to_csv(model);
  const bool markdown = format == "md";
  const char* mark = markdown ? "-" : " ";
  return to_table(model, markdown) +
         (model.checkpoint ? fmt::format("{} continue it with {} --resume\n", mark, command_name("train")) : "");
}

std::string describe_two(const InspectedModel& a, const InspectedModel& b, const std::string& format) {
  const Report report = compare_models(a, b);
  if (report.size() > 0 || format == "json" || format == "csv") return render(report, format_named(format));
  return fmt::format("'{}' and '{}' do not differ\n", a.path, b.path);
}

std::shared_ptr<const Tokenizer> tokenizer_of(const std::string& path) {
  if (names_tokenizer_file(path)) return make_tokenizer(read_tokenizer_file(path));
  ReadOptions read;
  read.parameters = false;
  return make_tokenizer(read_model_file(path, read).tokenizer);
}

// A row a token.
std::string tokens_of(const InspectOptions& o) {
  const auto tokenizer = tokenizer_of(o.model);
  std::string input;
  if (*o.tokenize == "-") input = std::string(read_file_text("-").bytes.text);
  std::vector<int32_t> ids;
  (o.special ? tokenizer->special_encoder() : tokenizer->encoder())
      ->append(*o.tokenize == "-" ? input : *o.tokenize, ids);
  if (o.format == "json") {
    nlohmann::ordered_json json = {{"schema_version", report_schema_version},
                                   {"tokenizer", tokenizer->name()},
                                   {"ids", ids},
                                   {"pieces", nlohmann::ordered_json::array()}};
    for (const int32_t id : ids) json["pieces"].push_back(std::string(tokenizer->text_of(id)));
    return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  }
  Report report;
  for (const int32_t id : ids) {
    Row row;
    row.set("id", int64_t{id});
    // In quotes, so that spaces are seen; bytes that are no text by themselves as U+FFFD.
    row.set("piece", nlohmann::json(std::string(tokenizer->text_of(id)))
                         .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    report.add(row);
  }
  report.fix_csv({"id", "piece"});
  return render(report, format_named(o.format));
}

int run_inspect(const InspectOptions& o) {
  warn_of_idle(
      *o.app, {{"--special", !o.tokenize, "without --tokenize"}, {"OTHER", o.tokenize.has_value(), "with --tokenize"}});
  if (o.tokenize) {
    print_result(tokens_of(o));
    return 0;
  }
  const InspectedModel model = inspect_model(o.model);
  if (model.checkpoint) log_info("'{}' is the checkpoint of a run; its parameters are those of the last step", o.model);
  print_result(o.other.empty() ? describe_one(model, o.format) : describe_two(model, inspect_model(o.other), o.format));
  return 0;
}

}  // namespace

int inspect(int argc, char** argv) {
  const Tool tool = {"inspect",
                     "  inspect small.h5\n"
                     "  inspect dense.h5 sparse.h5 --format json\n"
                     "  inspect dense.h5 --tokenize 'In the beginning'\n",
                     [](CLI::App& app, const Common&) -> std::function<int()> {
                       auto options = std::make_shared<InspectOptions>();
                       options->add(app);
                       return [options] { return run_inspect(*options); };
                     }};
  return run_tool(tool, argc, argv);
}

}  // namespace hone::cli
