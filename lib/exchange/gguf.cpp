#include "exchange/gguf.h"

#include <map>
#include <set>

#include "base/error.h"
#include "base/spelling.h"
#include "base/stop.h"
#include "exchange/assemble.h"
#include "exchange/gguf_form.h"
#include "exchange/gguf_tokenizer.h"
#include "exchange/model_numbers.h"
#include "exchange/obstacles.h"

namespace hone {
namespace {

const GgufForm& form_of(const GgufFile& file) {
  const std::string name = file.text("general.architecture");
  std::string known;
  for (const Architecture& a : architectures()) {
    if (!a.gguf) continue;
    if (name == a.gguf->name) return *a.gguf;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", a.gguf->name);
  }
  throw input_error("{}: the architecture '{}' is not read; of GGUF read are {}", file.where(), name, known);
}

// A row may be written as a matrix of one.
Shape without_ones(const Shape& shape) {
  const int64_t* first = shape.begin();
  while (shape.end() - first > 1 && *first == 1) ++first;
  return Shape(first, shape.end());
}

// What is shared by all that read tensors of one model.
struct Source {
  GgufFile file;

  const GgufTensor& tensor(const Part& part) const {
    const auto found = file.tensors().find(part.tensor);
    if (found == file.tensors().end()) throw input_error("{}: tensor '{}' is missing", file.where(), part.tensor);
    if (without_ones(found->second.shape) != without_ones(part.whole()))
      throw input_error("{}: tensor '{}' has shape {} where the keys need {}", file.where(), part.tensor,
                        to_string(found->second.shape), to_string(part.whole()));
    return found->second;
  }

  int read(const Part& part, int64_t first, std::span<float> to) const {
    return file.read(file.tensors().at(part.tensor), part.expert * elements(part.shape) + first, to);
  }
};

// Sizes that keys cannot mean, before they cost memory: every layer has tensors in the file.
void check_sizes(const Config& config, const GgufFile& file) {
  double numbers = 0;
  for (const auto& [name, tensor] : file.tensors()) numbers += static_cast<double>(elements(tensor.shape));
  for (const LayerBlueprint& l : config.layers) {
    const double widest =
        std::max({static_cast<double>(config.block.dim) * static_cast<double>(std::max<int64_t>(l.experts, 1)),
                  static_cast<double>(l.ffn),
                  static_cast<double>(l.heads + 2 * l.kv_heads) * static_cast<double>(config.block.head_dim)});
    if (widest * static_cast<double>(config.layers.size()) > numbers)
      throw input_error("{}: the sizes are larger than what the file holds", file.where());
  }
}

}  // namespace

Imported import_gguf(const std::string& path) {
  auto source = std::make_shared<Source>(Source{GgufFile(path)});
  const GgufFile& file = source->file;
  const GgufForm& form = form_of(file);
  Config config = form.read(file);
  try {
    check(config);
  } catch (const Error& error) {
    throw input_error("{}: {}", file.where(), error.what());
  }
  check_sizes(config, file);
  PromisedParameters parameters;
  std::set<std::string> used = {factors_name};
  for (const ParameterShape& p : parameter_shapes(config)) {
    const Parts parts = form.parts(config, p.info);
    for (const Part& part : parts.parts) used.insert(source->tensor(part).name);
    parameters.add(p, parts);
  }
  for (const auto& [name, tensor] : file.tensors())
    if (!used.contains(name))
      throw input_error("{}: tensor '{}' belongs to nothing in a model of {}", file.where(), name, form.name);
  Imported imported;
  imported.file.config = to_json(config);
  imported.file.version = format_version_of(config);
  imported.file.tokenizer = tokenizer_from_gguf(file);
  file.forget();  // mapped pages count as this process's memory
  std::move(parameters).into(imported, [source](const Part& part, int64_t first, std::span<float> to) {
    return source->read(part, first, to);
  });
  imported.what = fmt::format("{}, {}", form.name, counted(config.layers.size(), "layer"));
  return imported;
}

namespace {

// The first architecture that can express it; its keys are in the content then.
const GgufForm& choose(const Config& config, GgufContent& content) {
  Nearest nearest;
  for (const Architecture& a : architectures()) {
    if (!a.gguf) continue;
    GgufContent tried = content;
    tried.values.front().second = std::string(a.gguf->name);
    try {
      a.gguf->write(config, tried);
      content = std::move(tried);
      return *a.gguf;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::usage) throw;
      nearest.tried(a.gguf->name, error.what());
    }
  }
  throw usage_error("no architecture of llama.cpp has all of it (nearest is {})", nearest.text());
}

const BlockType& type_for(const Part& part, const BlockType& wanted) {
  // Routers stay as they are, as llama.cpp's own tools leave them: rounded ones choose other experts.
  return part.shape.size() < 2 || part.tensor.ends_with("ffn_gate_inp.weight") ? block_type_named("f32") : wanted;
}

// An obstacle for each length of rows that is no whole blocks.
void require_whole_blocks(const TensorOrigins& origins, const BlockType& wanted, Obstacles& obstacles) {
  std::map<int64_t, const Part*> first;  // by length
  for (const auto& [name, from] : origins)
    if (&type_for(from.part, wanted) == &wanted && from.part.shape.size() > 1)
      first.emplace(from.part.shape.back(), &from.part);
  for (const auto& [length, part] : first)
    obstacles.require(length % wanted.block == 0,
                      fmt::format("'{}' has rows of {}, which are no whole blocks of {} ({}); choose another type",
                                  part->tensor, counted(length, "number"), wanted.name, wanted.block));
}

}  // namespace

std::vector<std::string_view> gguf_types() {
  std::vector<std::string_view> names;
  for (const BlockType& type : block_types())
    if (type.encode) names.push_back(type.name);
  return names;
}

Exported export_gguf(const Model& model, const std::string& path, const ExportSettings& settings) {
  Obstacles obstacles;
  if (!settings.densify) require_plain(model, obstacles);
  const Config& config = model.transformer->config();
  const BlockType& wanted = block_type_named(settings.type == "same" ? "f32" : settings.type);
  GgufContent content;
  content.values = {{"general.architecture", std::string()},
                    {"general.name", std::string("hone")},
                    {"general.file_type", static_cast<int64_t>(wanted.file_type)},
                    {"general.quantization_version", int64_t{2}}};
  const GgufForm* chosen = nullptr;
  const ModelNumbers numbers(*model.transformer);
  TensorOrigins origins;
  obstacles.gather([&] {
    chosen = &choose(config, content);
    origins = origins_of(config, chosen->parts, numbers);
  });
  obstacles.gather([&] { add_gguf_tokenizer(model.tokenizer, config.padded_vocabulary, content); });
  require_whole_blocks(origins, wanted, obstacles);
  obstacles.refuse(fmt::format("'{}' does not fit GGUF: ", model.path), "; ");
  const GgufForm& form = *chosen;
  for (const auto& [name, from] : origins)
    content.tensors.push_back({name, from.part.whole(), &type_for(from.part, wanted)});
  const std::vector<float> factors = frequency_factors(config.block);
  if (!factors.empty())
    content.tensors.push_back({factors_name, {static_cast<int64_t>(factors.size())}, &block_type_named("f32")});
  if (settings.only_check) return {{}, form.name, 0, false};
  const int64_t bytes = write_gguf(path, settings.force, std::move(content), [&](const GgufTensor& tensor) {
    check_stop();
    if (tensor.name == factors_name) {
      const Tensor values = Tensor::empty(tensor.shape);
      std::copy(factors.begin(), factors.end(), values.data<float>());
      return values;
    }
    return numbers_of(origins.at(tensor.name), numbers);
  });
  return {{path}, form.name, bytes, false};
}

}  // namespace hone
