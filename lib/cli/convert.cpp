#include "cli/convert.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "base/spelling.h"
#include "base/units.h"
#include "cli/effects.h"
#include "cli/tool.h"
#include "exchange/format.h"
#include "io/lineage.h"

namespace hone::cli {
namespace {

constexpr std::string_view own = "hone";  // beside the rows of foreign_formats()

// What --to may say, and what --type may.
std::vector<std::string> targets() {
  std::vector<std::string> all = {std::string(own)};
  for (const ForeignFormat& format : foreign_formats())
    if (format.write) all.emplace_back(format.name);
  return all;
}
std::vector<std::string> types() {
  std::vector<std::string> all = {"same"};
  for (const ForeignFormat& format : foreign_formats())
    for (const std::string_view type : format.write ? format.types() : std::vector<std::string_view>())
      if (std::ranges::find(all, type) == all.end()) all.emplace_back(type);
  return all;
}

std::string help_of_types() {
  std::string text = "Of the numbers in files of others: same (as they came where the format says it, else f32), or";
  for (const ForeignFormat& format : foreign_formats())
    if (format.write)
      text +=
          fmt::format("{} {} for {}", text.ends_with(" or") ? "" : ";", fmt::join(format.types(), ", "), format.name);
  return text;
}

std::string help_of_model() {
  std::vector<std::string> files;
  for (const ForeignFormat& format : foreign_formats()) files.emplace_back(format.files);
  return fmt::format("Model file of Hone; or {}", either_of(files));
}

std::string help_of_output() {
  std::vector<std::string> folders;
  for (const ForeignFormat& format : foreign_formats())
    if (format.write && format.folder) folders.emplace_back(format.name);
  return "File to write" + (folders.empty() ? "" : ", or the folder of --to " + either_of(folders));
}

struct ConvertTool {
  std::string model, output, to, type = "same", format = "table";
  bool densify = false, force = false;
  const CLI::App* app = nullptr;

  void add(CLI::App& a) {
    app = &a;
    a.add_option("MODEL", model, help_of_model())->required();
    auto* options = a.add_option_group("Conversion");
    options->add_option("--to", to, fmt::format("{} (default: {} for models of others)", either_of(targets()), own))
        ->check(one_of(targets()));
    options->add_option("--type", type, help_of_types())->check(one_of(types()));
    options->add_flag("--densify", densify, "Write masked and packed weights as plain numbers, which others need");
    auto* files = a.add_option_group("Files");
    files->add_option("-o,--output", output, help_of_output())->type_name("PATH")->required();
    files->add_flag("--force", force, "Replace existing output");
    files->add_option("--format", format, "Of the result on stdout: table or json")->check(one_of({"table", "json"}));
  }
};

void print(const ConvertTool& o, const nlohmann::ordered_json& result, const std::string& line) {
  print_result(o.format == "json" ? result.dump() + "\n" : line + "\n");
}

int to_hone(const ConvertTool& o, const ForeignFormat& from, const Common& common) {
  warn_of_idle(*o.app, {{"--type", true, "on the way to Hone, whose models are f32"},
                        {"--densify", true, "on the way to Hone, which takes plain numbers"}});
  require_writable(o.output, o.force);
  require_distinct({{"--output", o.output}}, {{"MODEL", o.model}, {"--config", common.config}});
  Imported imported = from.read(o.model);
  if (imported.file.tokenizer.is_null())
    log_warning(
        "the model has no tokenizer (no tokenizer.json and no tokenizer.model beside it): its tokens are taken for "
        "bytes");
  if (common.dry_run) {
    log_info("would convert '{}' ({}, {} parameters) and write '{}'", o.model, imported.what,
             format_count(static_cast<double>(imported.parameters)), o.output);
    return 0;
  }
  log_info("converting {}, {} parameters", imported.what, format_count(static_cast<double>(imported.parameters)));
  imported.file.lineage.push_back(lineage_entry("convert", common.arguments, "", common.seed,
                                                {{"from", from.name}, {"parameters", imported.parameters}}));
  const WrittenFile written =
      write_model_file(o.output, imported.file, o.force, IfTaken::beside, {.read = imported.read});
  print(o,
        {{"output", written.path},
         {"bytes", written.bytes},
         {"sha256", written.sha256},
         {"parameters", imported.parameters}},
        fmt::format("{}  {}  {} parameters  sha256 {}", written.path, format_bytes(static_cast<double>(written.bytes)),
                    format_count(static_cast<double>(imported.parameters)), written.sha256));
  return 0;
}

int to_others(const ConvertTool& o, const ForeignFormat& format, const Common& common) {
  const std::vector<std::string_view> types = format.types();
  if (o.type != "same" && std::ranges::find(types, o.type) == types.end())
    throw usage_error("{} has no numbers of --type {}; it has {}", format.title, o.type, fmt::join(types, ", "));
  if (format.folder) {
    require_folder_writable(o.output);
  } else {
    require_writable(o.output, o.force);
    require_distinct({{"--output", o.output}}, {{"MODEL", o.model}, {"--config", common.config}});
  }
  // A tensor is in memory at a time; what one leaves in the pool hardly ever has the size of the next.
  limit_pool(size_t{32} << 20);
  const Model model = load_model(o.model, {.defer = true});
  read_through(model);
  const Exported exported = format.write(
      model, o.output, {.force = o.force, .densify = o.densify, .type = o.type, .only_check = common.dry_run});
  if (common.dry_run) {
    log_info("would write '{}' as {} ({}) {} '{}'", o.model, format.title, exported.architecture,
             format.folder ? "into the folder" : "to", o.output);
    return 0;
  }
  nlohmann::ordered_json result = {{"output", o.output}};
  if (format.folder) result["files"] = exported.files;
  result["bytes"] = exported.bytes;
  result["architecture"] = exported.architecture;
  if (format.folder) result["as_it_came"] = exported.as_it_came;
  print(o, result,
        fmt::format("{}  {}{}  {}{}", o.output, format.folder ? counted(exported.files.size(), "file") + "  " : "",
                    format_bytes(static_cast<double>(exported.bytes)), exported.architecture,
                    exported.as_it_came ? ", in the files that it came in" : ""));
  return 0;
}

int run_convert(const ConvertTool& o, const Common& common) {
  const ForeignFormat* const from = foreign_format_of(o.model);
  const std::string_view from_name = from ? from->name : own;
  const std::string to = !o.to.empty() ? o.to : from ? std::string(own) : "";
  if (to.empty()) throw usage_error("--to is missing: what '{}' is to become", o.model);
  if (to == from_name) throw usage_error("'{}' is {} already; --to says what it is to become", o.model, to);
  if (to == own) return to_hone(o, *from, common);
  if (from) throw usage_error("'{}' becomes a Hone model first: convert it without --to, and that to {}", o.model, to);
  return to_others(o, *foreign_format_named(to), common);
}

}  // namespace

int convert(int argc, char** argv) {
  const Tool tool = {"convert",
                     "  convert TinyLlama/ --output m.h5\n"
                     "  convert m.h5 --to safetensors --output back/\n"
                     "  convert m.h5 --to gguf --type q8_0 --output m.gguf\n",
                     [](CLI::App& app, const Common& common) -> std::function<int()> {
                       auto options = std::make_shared<ConvertTool>();
                       options->add(app);
                       return [options, &common] { return run_convert(*options, common); };
                     }};
  return run_tool(tool, argc, argv);
}

}  // namespace hone::cli
