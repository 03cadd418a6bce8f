#include <filesystem>
#include <map>
#include <set>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/stop.h"
#include "exchange/assemble.h"
#include "exchange/hugging_face.h"
#include "exchange/model_numbers.h"
#include "exchange/numbers.h"
#include "exchange/obstacles.h"
#include "exchange/safetensors.h"
#include "exchange/tokenizer_files.h"

namespace hone {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// The first architecture that can express it, the model's own before all others.
struct Choice {
  const Architecture* architecture;
  nlohmann::ordered_json config;
  TensorOrigins origins;
};
Choice choose(const Model& model, const ModelNumbers& numbers) {
  const Config& config = model.transformer->config();
  std::vector<const Architecture*> tried;
  if (model.origin.is_object())
    if (const Architecture* own = find_architecture(model.origin.value("architecture", ""))) tried.push_back(own);
  for (const Architecture& a : architectures()) tried.push_back(&a);
  Nearest nearest;
  for (const Architecture* a : tried) {
    try {
      nlohmann::ordered_json written = a->write(config);
      return {a, std::move(written), origins_of(config, a->parts, numbers)};
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::usage) throw;
      nearest.tried(a->name, error.what());
    }
  }
  throw usage_error("no architecture has all of it (nearest is {})", nearest.text());
}

// The origin, where what it says still is what the model is.
std::optional<Settings> origin_that_fits(const Model& model) {
  const Json& origin = model.origin;
  try {
    if (!origin.is_object() || origin.value("format", "") != "safetensors") return std::nullopt;
    const Settings config(parse_foreign_json(origin.at("config").get<std::string>(), "origin"), "origin");
    const Architecture* architecture = find_architecture(origin.at("architecture").get<std::string>());
    if (!architecture || architecture->read(config) != model.transformer->config()) return std::nullopt;
    return Settings(origin, "origin");
  } catch (const Json::exception&) {
    return std::nullopt;
  } catch (const Error&) {
    return std::nullopt;
  }
}

// None: as they came.
std::optional<NumberType> asked_type(const std::string& type) {
  if (type == "same") return std::nullopt;
  for (const NumberType row : number_types)
    if (option_of(row) == type) return row;
  throw usage_error("safetensors has no numbers of type {}", type);
}

class Exporter {
 public:
  Exporter(const Model& model, const std::string& folder, const ExportSettings& settings)
      : model_(model),
        folder_(folder),
        settings_(settings),
        type_(asked_type(settings.type)),
        numbers_(*model.transformer) {}

  Exported run() {
    Obstacles obstacles;
    if (!settings_.densify) require_plain(model_, obstacles);
    Choice choice{};
    obstacles.gather([&] { choice = choose(model_, numbers_); });
    obstacles.gather([&] { tokenizer_ = tokenizer_files(model_.tokenizer); });
    obstacles.refuse(fmt::format("'{}' does not fit safetensors: ", model_.path), "; ");
    result_.architecture = choice.architecture->name;
    const std::optional<Settings> origin = type_ ? std::nullopt : origin_that_fits(model_);
    try {
      plan(choice, origin);
    } catch (const Json::exception&) {
      throw input_error("'{}': what it says of its origin is damaged", model_.path);
    }
    if (settings_.only_check) return result_;
    require_folder_writable(folder_);
    std::error_code error;
    fs::create_directory(folder_, error);
    if (error) throw input_error("cannot make the folder '{}': {}", folder_, error.message());
    for (const auto& [name, text] : texts_) require_writable(path(name), settings_.force);
    for (const File& file : files_) require_writable(path(file.name), settings_.force);
    for (File& file : files_) write(file, choice.origins);
    for (const auto& [name, text] : texts_) {
      write_text_file(path(name), text, settings_.force);
      took(name);
    }
    return result_;
  }

 private:
  struct File {
    std::string name, header;
    std::vector<StoredTensor> tensors;
  };

  std::string path(const std::string& name) const { return (fs::path(folder_) / name).string(); }
  void took(const std::string& name) {
    result_.files.push_back(path(name));
    result_.bytes += static_cast<int64_t>(fs::file_size(path(name)));
  }

  // As it came, if its headers name what the model has; config.json last of all, since readers begin with it.
  void plan(const Choice& choice, const std::optional<Settings>& origin) {
    const bool same = origin && plan_as_it_came(choice, *origin);
    result_.as_it_came = same;
    if (!same) plan_afresh(choice);
    if (!same || !model_.tokenizer.is_null())  // it came without
      for (auto& [name, text] : tokenizer_) texts_.emplace_back(name, std::move(text));
    if (same) {
      if (const std::string index = origin->text("index"); !index.empty())
        texts_.emplace_back("model.safetensors.index.json", index);
      for (const auto& [name, text] : origin->json().at("texts").items())
        if (name.find('/') == name.npos) texts_.emplace_back(name, text.get<std::string>());
    }
    texts_.emplace_back("config.json", same ? origin->text("config") : choice.config.dump(2) + "\n");
  }

  bool plan_as_it_came(const Choice& choice, const Settings& origin) {
    std::set<std::string> missing;
    for (const auto& [name, from] : choice.origins) missing.insert(name);
    for (const Json& listed : origin.json().at("files")) {
      File file{listed.at("name").get<std::string>(), listed.at("header").get<std::string>(), {}};
      if (file.name.find('/') != file.name.npos) return false;
      file.tensors = parse_safetensors_header(file.header, std::nullopt, "origin");
      for (const StoredTensor& tensor : file.tensors) {
        const std::string whole = whole_name(choice, tensor.name);
        if (whole.empty()) return false;  // a buffer, whose numbers are gone
        missing.erase(whole);
      }
      files_.push_back(std::move(file));
    }
    return missing.empty();
  }

  // The name that the architecture gives a tensor of a file: of the bare model, with its prefix.
  std::string whole_name(const Choice& choice, const std::string& name) {
    const std::string with_prefix = choice.architecture->prefix + name;
    for (const std::string& whole : {name, with_prefix})
      if (choice.origins.contains(whole)) return names_[name] = whole;
    if (model_.transformer->config().tied && (name == "lm_head.weight" || name == "embed_out.weight"))
      for (const auto& [whole, from] : choice.origins)
        if (from.parameter == model_.transformer->head_name()) return names_[name] = whole;
    return "";
  }

  void plan_afresh(const Choice& choice) {
    files_.clear();
    names_.clear();
    File file{"model.safetensors", "", {}};
    const std::string type(name_of(type_.value_or(usual_type())));
    for (const auto& [name, from] : choice.origins) {
      file.tensors.push_back({name, type, from.part.shape});
      names_[name] = name;
    }
    file.header = make_safetensors_header(file.tensors);
    files_.push_back(std::move(file));
  }

  // That of the files it came from.
  NumberType usual_type() const {
    if (!model_.origin.is_object() || !model_.origin.contains("files")) return NumberType::f32;
    for (const Json& listed : model_.origin.at("files"))
      for (const StoredTensor& t :
           parse_safetensors_header(listed.at("header").get<std::string>(), std::nullopt, "origin"))
        return number_type_of(t, "origin");
    return NumberType::f32;
  }

  void write(const File& file, const TensorOrigins& origins) {
    std::vector<std::byte> bytes;
    write_safetensors(path(file.name), settings_.force, file.header, file.tensors,
                      [&](const StoredTensor& tensor, OutputFile& out) {
                        check_stop();
                        const NumberType type = number_type_of(tensor, "origin");
                        const Tensor values = numbers_of(origins.at(names_.at(tensor.name)), numbers_);
                        in_pieces(values, [&](std::span<const float> piece) {
                          bytes.resize(piece.size() * size_of(type));
                          encode_numbers(piece, type, bytes.data());
                          out.write(bytes.data(), bytes.size());
                        });
                      });
    took(file.name);
  }

  const Model& model_;
  const std::string& folder_;
  const ExportSettings& settings_;
  const std::optional<NumberType> type_;  // of all tensors; none: that of the files it came from, else F32
  const ModelNumbers numbers_;
  std::vector<File> files_;
  std::map<std::string, std::string> names_;                            // of the architecture, by those in the files
  std::vector<std::pair<std::string, std::string>> tokenizer_, texts_;  // names and what is in them
  Exported result_;
};

}  // namespace

bool is_hugging_face(const std::string& path) {
  return fs::is_directory(path) || path.ends_with(".safetensors");
}

std::vector<std::string_view> safetensors_types() {
  std::vector<std::string_view> names;
  for (const NumberType type : number_types) names.push_back(option_of(type));
  return names;
}

Exported export_hugging_face(const Model& model, const std::string& folder, const ExportSettings& settings) {
  return Exporter(model, folder, settings).run();
}

}  // namespace hone
