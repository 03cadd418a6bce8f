#include "cli/report.h"

#include <filesystem>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/spelling.h"
#include "base/target.h"
#include "base/text_output.h"
#include "cli/effects.h"
#include "cli/tool.h"
#include "overview/page.h"
#include "report/late_texts.h"

namespace hone::cli {
namespace {

struct ReportOptions {
  std::vector<std::string> paths;
  std::string output, title;
  bool force = false;
  const CLI::App* app = nullptr;

  void add(CLI::App& options) {
    app = &options;
    options
        .add_option("PATH", paths,
                    "Folders and files: models, logs of train (--log), results of eval and bench (--format json or "
                    "jsonl)")
        ->required();
    auto* page = options.add_option_group("Page");
    page->add_option("-o,--output", output, "The page, an HTML file; - is stdout")->type_name("FILE")->required();
    page->add_option("--title", title, "Its title (default: the name of the first PATH)")->type_name("TEXT");
    page->add_flag("--force", force, "Replace existing output");
  }
};

std::string name_of(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code failed;
  const fs::path whole = fs::weakly_canonical(path, failed);
  return failed || whole.filename().empty() ? path : whole.filename().string();
}

int run_report(const ReportOptions& o, const Common& common) {
  warn_of_idle(*o.app, {{"--force", o.output == "-", "on stdout"}});
  require_text_writable(o.output, o.force);
  require_distinct({{"--output", o.output}}, named("PATH", o.paths));
  const RunFiles files = read_run_files(o.paths);
  for (const auto& [name, why] : files.unused) log_info("'{}' is not used: {}", name, why);
  log_info("{}, {}, {} of eval, {} of bench", counted(files.models.size(), "model"), counted(files.logs.size(), "log"),
           counted(files.scores.size(), "result"), files.speeds.size());
  if (common.dry_run) return 0;
  // A name may be any bytes, a page is UTF-8.
  const std::string page = overview_page(files, in_utf8(o.title.empty() ? name_of(o.paths.front()) : o.title));
  if (o.output == "-") {
    print_result(page);
    return 0;
  }
  LateTexts late(o.force);
  late.write("--output", o.output, page);
  if (!late.missing().empty()) throw input_error("{}", late.missing());  // and there is nothing else
  return 0;
}

}  // namespace

int report(int argc, char** argv) {
  const Tool tool = {.name = "report",
                     .example =
                         "  report run/ --output report.html\n"
                         "  report dense.h5 small.h5 train.jsonl scores.json speeds.json --output report.html\n",
                     .setup = [](CLI::App& app, const Common& common) -> std::function<int()> {
                       auto options = std::make_shared<ReportOptions>();
                       options->add(app);
                       return [options, &common] { return run_report(*options, common); };
                     }};
  return run_tool(tool, argc, argv);
}

}  // namespace hone::cli
