#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/spelling.h"
#include "base/stop.h"
#include "exchange/assemble.h"
#include "exchange/hugging_face.h"
#include "exchange/safetensors.h"

namespace hone {
namespace {

namespace fs = std::filesystem;

constexpr const char* index_name = "model.safetensors.index.json";
constexpr size_t most_open = 16;  // files whose descriptors are kept: of more none are
constexpr const char* whole_name = "model.safetensors";
// Texts beside the model that come back as they were.
constexpr const char* companions[] = {"tokenizer_config.json", "generation_config.json", "special_tokens_map.json"};

std::string read_if_there(const fs::path& path) {
  return fs::exists(path) ? read_text_file(path.string()) : std::string();
}

// The files of tensors, and where each tensor is.
class TensorFiles {
 public:
  TensorFiles(const fs::path& folder, const std::string& single) : folder_(folder) {
    if (!single.empty()) {
      add(single);
      return;
    }
    if (fs::exists(folder / index_name)) {
      add_shards();
    } else if (fs::exists(folder / whole_name)) {
      add(whole_name);
    } else {
      throw input_error("'{}' has neither {} nor {}: give a folder with a model in safetensors", folder.string(),
                        whole_name, index_name);
    }
  }

  struct Place {
    const SafetensorsFile* file;
    const StoredTensor* tensor;
    std::string where;  // "'model.safetensors'"
  };
  const std::map<std::string, Place>& places() const { return places_; }
  bool any_begins(const std::string& prefix) const {
    const auto found = places_.lower_bound(prefix);
    return found != places_.end() && found->first.starts_with(prefix);
  }
  const std::string& index() const { return index_; }

  nlohmann::json headers() const {
    nlohmann::json list = nlohmann::json::array();
    for (const auto& [name, file] : files_) list.push_back({{"name", name}, {"header", file->header()}});
    return list;
  }
  uint64_t data_bytes() const {
    uint64_t sum = 0;
    for (const auto& [name, place] : places_) sum += place.tensor->end - place.tensor->begin;
    return sum;
  }
  void forget() const {
    for (const auto& [name, file] : files_) file->forget();
  }

 private:
  void add(const std::string& name, MappedFile::Descriptors kept = MappedFile::Descriptors::one) {
    const std::string path = (folder_ / name).string();
    const auto& file = files_.emplace_back(name, std::make_unique<SafetensorsFile>(path, kept)).second;
    for (const StoredTensor& tensor : file->tensors())
      if (!places_.emplace(tensor.name, Place{file.get(), &tensor, fmt::format("'{}'", path)}).second)
        throw input_error("'{}': tensor '{}' is in another file already", path, tensor.name);
  }

  void add_shards() {
    const std::string path = (folder_ / index_name).string(), where = fmt::format("'{}'", path);
    index_ = read_text_file(path);
    const Settings index(parse_foreign_json(index_, where), where);
    const Settings map = index.object("weight_map");
    std::map<std::string, std::string> wanted;
    std::set<std::string> names;
    for (const auto& [tensor, file] : map.json().items()) {
      if (!file.is_string()) throw input_error("{}: the file of '{}' is not a string", where, tensor);
      const std::string name = file.get<std::string>();
      if (name.empty() || name.find('/') != name.npos || name.find('\0') != name.npos || name.starts_with("."))
        throw input_error("{}: '{}' is not the name of a file beside it", where, name);
      names.insert(name);
      wanted[tensor] = name;
    }
    const auto kept = names.size() > most_open ? MappedFile::Descriptors::none : MappedFile::Descriptors::one;
    for (const std::string& name : names) add(name, kept);
    for (const auto& [tensor, file] : wanted) {
      const auto found = places_.find(tensor);
      if (found == places_.end() || found->second.where != fmt::format("'{}'", (folder_ / file).string()))
        throw input_error("{}: tensor '{}' is not in '{}'", where, tensor, file);
    }
  }

  fs::path folder_;
  std::string index_;
  std::vector<std::pair<std::string, std::unique_ptr<SafetensorsFile>>> files_;
  std::map<std::string, Place> places_;
};

// What is shared by all that read tensors of one model.
struct Source {
  TensorFiles files;
  const Architecture* architecture;
  std::string cut = {};  // what names lack: "model."

  std::string name_in_file(const std::string& tensor) const {
    return !cut.empty() && tensor.starts_with(cut) ? tensor.substr(cut.size()) : tensor;
  }

  const TensorFiles::Place& place(const Part& part) const {
    const std::string name = name_in_file(part.tensor);
    const auto found = files.places().find(name);
    if (found == files.places().end()) throw input_error("tensor '{}' is missing from the model's files", name);
    const auto& [file, tensor, where] = found->second;
    if (tensor->shape != part.shape)
      throw input_error("{}: tensor '{}' has shape {} where the configuration needs {}", where, name,
                        to_string(tensor->shape), to_string(part.shape));
    number_type_of(*tensor, where);
    return found->second;
  }

  int read(const Part& part, int64_t first, std::span<float> to) const {
    const auto& [file, tensor, where] = files.places().at(name_in_file(part.tensor));
    if (!part.transposed) return file->read(*tensor, first, to);
    file->decode(*tensor, first, to);  // pieces of columns
    return 0;
  }
};

bool same_bytes(const TensorFiles::Place& a, const TensorFiles::Place& b) {
  const uint64_t bytes = a.tensor->end - a.tensor->begin;
  if (a.tensor->type != b.tensor->type || b.tensor->end - b.tensor->begin != bytes) return false;
  std::vector<std::byte> here(std::min<uint64_t>(bytes, uint64_t{256} << 10)), there(here.size());
  for (uint64_t begin = 0; begin < bytes; begin += here.size()) {
    check_stop();
    const auto size = static_cast<size_t>(std::min<uint64_t>(here.size(), bytes - begin));
    for (const auto& [place, to] : {std::pair(&a, &here), std::pair(&b, &there)})
      if (const int error = place->file->read_bytes(*place->tensor, begin, std::span(*to).first(size)))
        throw input_error("{}: tensor '{}' cannot be read: {}", place->where, place->tensor->name,
                          std::strerror(error));
    if (std::memcmp(here.data(), there.data(), size) != 0) return false;
  }
  return true;
}

// What the file has and the model does not use: buffers, and a second copy of a tied head.
void check_leftovers(const Source& s, const Config& config, const PromisedParameters& parameters,
                     const Part& embedding) {
  std::set<std::string> used;
  for (const auto& [name, parts] : parameters.parts())
    for (const Part& part : parts.parts) used.insert(s.name_in_file(part.tensor));
  for (const auto& [name, place] : s.files.places()) {
    if (used.contains(name) || s.architecture->buffer(name)) continue;
    if (config.tied && (name == "lm_head.weight" || name == "embed_out.weight")) {
      if (same_bytes(place, s.place(embedding))) continue;
      throw input_error("{}: '{}' differs from the embedding, which config.json says it is", place.where, name);
    }
    throw input_error("{}: tensor '{}' belongs to nothing in a model of type {}", place.where, name,
                      s.architecture->name);
  }
}

// Sizes that a configuration cannot mean, before they cost memory: a vector of them is in the files, in every layer.
void check_sizes(const Config& config, const TensorFiles& files, const std::string& where) {
  const auto have = static_cast<double>(files.data_bytes());
  for (const LayerBlueprint& l : config.layers) {
    const double experts = static_cast<double>(std::max<int64_t>(l.experts, 1));
    const double widest =
        std::max({static_cast<double>(config.block.dim), experts * static_cast<double>(l.ffn),
                  static_cast<double>(l.heads + 2 * l.kv_heads) * static_cast<double>(config.block.head_dim)});
    if (widest * static_cast<double>(config.layers.size()) > have)
      throw input_error("{}: the sizes are larger than what the files hold", where);
  }
}

nlohmann::json origin_of(const Source& s, const fs::path& folder, const std::string& config) {
  nlohmann::json texts = nlohmann::json::object();
  for (const char* name : companions)
    if (const std::string text = read_if_there(folder / name); !text.empty()) texts[name] = text;
  return {{"format", "safetensors"},  {"architecture", s.architecture->name},
          {"config", config},         {"files", s.files.headers()},
          {"index", s.files.index()}, {"texts", texts}};
}

// Texts that JSON can hold: others cannot come back.
std::string require_utf8(std::string text, const std::string& path) {
  try {
    (void)nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw input_error("'{}' is not UTF-8", path);
  }
  return text;
}

}  // namespace

Imported import_hugging_face(const std::string& path) {
  const bool single = !fs::is_directory(path);
  const fs::path folder = single ? fs::path(path).parent_path() : fs::path(path);
  const std::string config_path = (folder / "config.json").string();
  if (!fs::exists(config_path)) throw input_error("'{}' is missing: it says what the tensors are", config_path);
  const std::string text = require_utf8(read_text_file(config_path), config_path);
  const std::string where = fmt::format("'{}'", config_path);
  const Settings settings(parse_foreign_json(text, where), where);
  const Architecture& architecture = architecture_of(settings);
  Config config = architecture.read(settings);
  try {
    check(config);
  } catch (const Error& error) {
    throw input_error("{}: {}", where, error.what());
  }
  auto source = std::make_shared<Source>(
      Source{TensorFiles(folder, single ? fs::path(path).filename().string() : ""), &architecture});
  check_sizes(config, source->files, where);
  if (!source->files.any_begins(architecture.prefix)) source->cut = architecture.prefix;
  PromisedParameters parameters;
  Part embedding;
  for (const ParameterShape& p : parameter_shapes(config)) {
    check_stop();
    const Parts parts = architecture.parts(config, p.info);
    for (const Part& part : parts.parts) source->place(part);
    if (p.info.role == Role::embedding) embedding = parts.parts.front();
    parameters.add(p, parts);
  }
  check_leftovers(*source, config, parameters, embedding);
  Imported imported;
  imported.file.config = to_json(config);
  imported.file.version = format_version_of(config);
  imported.file.origin = origin_of(*source, folder, text);
  source->files.forget();  // mapped pages count as this process's memory
  std::move(parameters).into(imported, [source](const Part& part, int64_t first, std::span<float> to) {
    return source->read(part, first, to);
  });
  imported.what = fmt::format("{}, {}", architecture.name, counted(config.layers.size(), "layer"));
  return imported;
}

}  // namespace hone
