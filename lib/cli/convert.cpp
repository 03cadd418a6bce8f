#include "cli/convert.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/error.h"
#include "base/log.h"
#include "base/units.h"
#include "cli/effects.h"
#include "cli/tool.h"
#include "dataset/tokenizer_file.h"
#include "exchange/gguf.h"
#include "exchange/gguf_file.h"
#include "exchange/hugging_face.h"
#include "exchange/llama2c.h"
#include "io/lineage.h"

namespace hone::cli {
namespace {

namespace fs = std::filesystem;

// What a model is stored as; the last is only read.
enum class Kind { hone, safetensors, gguf, llama2c };
constexpr std::array kind_names = {"hone", "safetensors", "gguf", "llama2c"};
constexpr size_t targets = 3;

// Of numbers in files of others.
const std::vector<std::string> block_names = {"q8_0", "q4_0"};  // GGUF alone

struct ConvertTool {
  std::string model, output, to, type = "same", format = "table";
  bool densify = false, force = false;
  const CLI::App* app = nullptr;

  void add(CLI::App& a) {
    app = &a;
    a.add_option("MODEL", model,
                 "Model file of Hone; or a folder with config.json, its .safetensors, a .gguf, or llama2.c's .bin")
        ->required();
    auto* options = a.add_option_group("Conversion");
    options->add_option("--to", to, "hone, safetensors or gguf (default: hone for models of others)")
        ->check(one_of({kind_names.begin(), kind_names.begin() + targets}));
    options
        ->add_option(
            "--type", type,
            "Of the numbers in files of others: same (safetensors: as they came; else f32), f32, f16, bf16; of "
            "GGUF also q8_0 and q4_0")
        ->check(one_of({"same", "f32", "f16", "bf16", "q8_0", "q4_0"}));
    options->add_flag("--densify", densify, "Write masked and packed weights as plain numbers, which others need");
    auto* files = a.add_option_group("Files");
    files->add_option("-o,--output", output, "File to write, or the folder of --to safetensors")
        ->type_name("PATH")
        ->required();
    files->add_flag("--force", force, "Replace existing output");
    files->add_option("--format", format, "Of the result on stdout: table or json")->check(one_of({"table", "json"}));
  }
};

Kind kind_of(const std::string& path) {
  if (fs::is_directory(path) || path.ends_with(".safetensors")) return Kind::safetensors;
  if (is_llama2c(path)) return Kind::llama2c;
  return is_gguf(path) ? Kind::gguf : Kind::hone;
}

void print(const ConvertTool& o, const nlohmann::ordered_json& result, const std::string& line) {
  print_result(o.format == "json" ? result.dump() + "\n" : line + "\n");
}

// A model of others, with its tokenizer.
Imported import_model(const ConvertTool& o, Kind from) {
  if (from == Kind::gguf) return import_gguf(o.model);
  Imported imported = from == Kind::llama2c ? import_llama2c(o.model) : import_hugging_face(o.model);
  const fs::path folder = fs::is_directory(o.model) ? fs::path(o.model) : fs::path(o.model).parent_path();
  const Config config = config_from_json(imported.file.config, fmt::format("'{}'", o.model));
  imported.file.tokenizer = tokenizer_beside(folder.string(), config.vocabulary);
  return imported;
}

int to_hone(const ConvertTool& o, Kind from, const Common& common) {
  warn_of_idle(*o.app, {{"--type", true, "on the way to Hone, whose models are f32"},
                        {"--densify", true, "on the way to Hone, which takes plain numbers"}});
  require_writable(o.output, o.force);
  require_distinct({{"--output", o.output}}, {{"MODEL", o.model}, {"--config", common.config}});
  Imported imported = import_model(o, from);
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
  imported.file.lineage.push_back(
      lineage_entry("convert", common.arguments, "", common.seed,
                    {{"from", kind_names[static_cast<size_t>(from)]}, {"parameters", imported.parameters}}));
  const WrittenFile written = write_model_file(o.output, imported.file, o.force, IfTaken::beside, imported.make);
  print(o,
        {{"output", written.path},
         {"bytes", written.bytes},
         {"sha256", written.sha256},
         {"parameters", imported.parameters}},
        fmt::format("{}  {}  {} parameters  sha256 {}", written.path, format_bytes(static_cast<double>(written.bytes)),
                    format_count(static_cast<double>(imported.parameters)), written.sha256));
  return 0;
}

int to_safetensors(const ConvertTool& o, const Common& common) {
  if (std::find(block_names.begin(), block_names.end(), o.type) != block_names.end())
    throw usage_error("safetensors has no numbers of --type {}; f32, f16 and bf16 are", o.type);
  const Model model = load_model(o.model);
  require_finite(model);
  ExportSettings settings{o.force, o.densify, {}};
  for (const NumberType type : {NumberType::f32, NumberType::f16, NumberType::bf16})
    if (o.type == (type == NumberType::f32 ? "f32" : type == NumberType::f16 ? "f16" : "bf16")) settings.type = type;
  if (!o.densify) require_plain(model, "safetensors");
  if (common.dry_run) {
    log_info("would write '{}' as safetensors into the folder '{}'", o.model, o.output);
    return 0;
  }
  const Exported exported = export_hugging_face(model, o.output, settings);
  print(o,
        {{"output", o.output},
         {"files", exported.files},
         {"bytes", exported.bytes},
         {"architecture", exported.architecture},
         {"as_it_came", exported.as_it_came}},
        fmt::format("{}  {} files  {}  {}{}", o.output, exported.files.size(),
                    format_bytes(static_cast<double>(exported.bytes)), exported.architecture,
                    exported.as_it_came ? ", in the files that it came in" : ""));
  return 0;
}

int to_gguf(const ConvertTool& o, const Common& common) {
  require_writable(o.output, o.force);
  require_distinct({{"--output", o.output}}, {{"MODEL", o.model}, {"--config", common.config}});
  const Model model = load_model(o.model);
  require_finite(model);
  if (!o.densify) require_plain(model, "GGUF");
  if (common.dry_run) {
    log_info("would write '{}' as GGUF to '{}'", o.model, o.output);
    return 0;
  }
  const GgufWritten written = export_gguf(model, o.output, {o.force, o.densify, o.type == "same" ? "f32" : o.type});
  print(o, {{"output", o.output}, {"bytes", written.bytes}, {"architecture", written.architecture}},
        fmt::format("{}  {}  {}", o.output, format_bytes(static_cast<double>(written.bytes)), written.architecture));
  return 0;
}

int run(const ConvertTool& o, const Common& common) {
  const Kind from = kind_of(o.model);
  const std::string to = !o.to.empty() ? o.to : from == Kind::hone ? "" : "hone";
  if (to.empty()) throw usage_error("--to is missing: what '{}' is to become", o.model);
  if (to == kind_names[static_cast<size_t>(from)])
    throw usage_error("'{}' is {} already; --to says what it is to become", o.model, to);
  if (to == "hone") return to_hone(o, from, common);
  if (from != Kind::hone)
    throw usage_error("'{}' becomes a Hone model first: convert it without --to, and that to {}", o.model, to);
  return to == "gguf" ? to_gguf(o, common) : to_safetensors(o, common);
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
                       return [options, &common] { return run(*options, common); };
                     }};
  return run_tool(tool, argc, argv);
}

}  // namespace hone::cli
