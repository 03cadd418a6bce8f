#include "cli/inspect.h"

#include "base/error.h"
#include "base/log.h"
#include "base/program.h"
#include "cli/tool.h"
#include "inspect/compare.h"
#include "inspect/model.h"

namespace hone::cli {
namespace {

struct InspectOptions {
  std::string model, other, format = "table";

  void add(CLI::App& app) {
    app.add_option("MODEL", model, "Model file, or checkpoint of a run")->required();
    app.add_option("OTHER", other, "Second file: what differs is shown instead");
    auto* report = app.add_option_group("Report");
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

int run(const InspectOptions& o) {
  const InspectedModel model = inspect_model(o.model);
  if (model.checkpoint) log_info("'{}' is the checkpoint of a run; its parameters are those of the last step", o.model);
  print_result(o.other.empty() ? describe_one(model, o.format) : describe_two(model, inspect_model(o.other), o.format));
  return 0;
}

}  // namespace

int inspect(int argc, char** argv) {
  const Tool tool = {"inspect", "Shows what is in a model file, or what differs between two.",
                     "  inspect small.h5\n"
                     "  inspect dense.h5 sparse.h5 --format json\n",
                     [](CLI::App& app, const Common&) -> std::function<int()> {
                       auto options = std::make_shared<InspectOptions>();
                       options->add(app);
                       return [options] { return run(*options); };
                     }};
  return run_tool(tool, argc, argv);
}

}  // namespace hone::cli
