#include "inspect/model.h"

#include <fmt/format.h>

#include <filesystem>

#include "base/stop.h"

namespace hone {
namespace {

int64_t bytes_of(const Encoded& encoded) {
  int64_t bytes = 0;
  for (const auto& [name, array] : encoded.arrays) bytes += static_cast<int64_t>(array.bytes());
  return bytes;
}

// Goes through the file once, a parameter after the other: only one is in memory.
class Lister : public Visitor {
 public:
  Lister(std::vector<InspectedParameter>& into, const std::map<std::string, Encoded>& stored)
      : into_(into), stored_(stored) {}

  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    check_stop();
    weight->encode();  // compares it with its checksums; what is read is counted, where the file only tells
    InspectedParameter p = named(info);
    p.form = weight->form();
    p.element = weight->element();
    p.shape = {weight->rows(), weight->cols()};
    p.elements = elements(p.shape);
    p.nonzeros = weight->nonzeros();
    p.pruned = weight->pruned();
    p.weight = weight;
    add(std::move(p));
    weight->let_go();
  }

  void parameter(const ParameterInfo& info, Parameter& parameter) override {
    InspectedParameter p = named(info);
    p.form = "dense";
    p.element = "f32";
    p.shape = parameter.value.shape();
    p.elements = parameter.value.size();
    p.value = parameter.value;
    for (const float x : parameter.value.span<float>()) p.nonzeros += x != 0;
    add(std::move(p));
  }

 private:
  static InspectedParameter named(const ParameterInfo& info) {
    InspectedParameter p;
    p.name = info.name;
    if (info.expert >= 0) p.of_any_expert = info.name_of_expert("*");
    return p;
  }

  void add(InspectedParameter p) {
    const Encoded& stored = stored_.at(p.name);
    p.bytes = bytes_of(stored);
    p.nonfinite = count_nonfinite(stored);
    if (const auto bits = stored.attributes.find(activation_bits_attribute); bits != stored.attributes.end())
      p.activation_bits = bits->second;
    into_.push_back(std::move(p));
  }

  std::vector<InspectedParameter>& into_;
  const std::map<std::string, Encoded>& stored_;
};

}  // namespace

InspectedModel inspect_model(const std::string& path) {
  ReadOptions read;
  read.run = true;
  read.defer = true;
  ModelFile file = read_model_file(path, read);
  InspectedModel m;
  m.path = path;
  m.file_bytes = static_cast<int64_t>(std::filesystem::file_size(path));
  m.checkpoint = file.run.has_value();
  if (file.run) m.run = *file.run;
  for (const auto& [name, array] : file.run_arrays) m.run_bytes += static_cast<int64_t>(array.bytes());
  m.config = file.config;
  m.tokenizer_json = file.tokenizer;
  m.tokenizer = make_tokenizer(file.tokenizer);
  m.lineage = file.lineage;
  const std::map<std::string, Encoded> stored = file.parameters;
  const Model model = model_of(std::move(file), path);
  Lister lister(m.parameters, stored);
  model.transformer->visit(lister);
  for (const InspectedParameter& p : m.parameters) {
    m.parameter_bytes += p.bytes;
    m.nonfinite += p.nonfinite;
  }
  m.size = size_of(*model.transformer);
  return m;
}

std::string stage_text(const nlohmann::json& stage) {
  if (!stage.is_object()) return stage.dump();
  const auto text = [&](const char* key) {
    const auto found = stage.find(key);
    return found != stage.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  std::string line = fmt::format("{} {}:", text("tool"), text("version"));
  if (const auto arguments = stage.find("arguments"); arguments != stage.end() && arguments->is_array())
    for (const auto& argument : *arguments) {
      const std::string word = argument.is_string() ? argument.get<std::string>() : argument.dump();
      const bool plain = !word.empty() && word.find_first_of(" \t\n\"'\\*?$<>|&;()") == std::string::npos;
      line += plain ? " " + word : fmt::format(" '{}'", word);
    }
  return stage.contains("unfinished") ? line + " (unfinished)" : line;
}

}  // namespace hone
