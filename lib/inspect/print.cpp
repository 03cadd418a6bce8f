// Printing what is in a model file: for people, and as JSON and CSV.
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/spelling.h"
#include "base/units.h"
#include "base/version.h"
#include "base/wrap.h"
#include "inspect/model.h"
#include "model/depth_routers.h"
#include "model/exit_calibration.h"
#include "model/exits.h"
#include "report/report.h"

namespace hone {
namespace {

using Json = nlohmann::ordered_json;

Row row_of(const InspectedParameter& p) {
  Row row;
  row.set("parameter", p.name)
      .set("form", p.form)
      .set("element", p.element)
      .set("shape", fmt::format("{}", fmt::join(p.shape, "x")))
      .set("parameters", p.elements)
      .set("nonzero_parameters", p.nonzeros)
      .set("sparsity", p.sparsity())
      .set("zero_fraction", p.zero_fraction())
      .set("nonfinite", p.nonfinite)
      .set("bytes", p.bytes);
  if (p.activation_bits > 0) row.set("activation_bits", p.activation_bits);
  return row;
}

// The same matrix of all experts of a mixture as one, "blocks.0.feed_forward.experts.*.down.weight", where they are
// alike.
std::vector<InspectedParameter> with_experts_together(const std::vector<InspectedParameter>& parameters) {
  std::vector<InspectedParameter> result;
  for (const InspectedParameter& p : parameters) {
    if (p.of_any_expert.empty()) {
      result.push_back(p);
      continue;
    }
    const auto same = std::find_if(result.begin(), result.end(), [&](const InspectedParameter& other) {
      return other.name == p.of_any_expert && other.form == p.form && other.element == p.element &&
             other.shape == p.shape && other.activation_bits == p.activation_bits;
    });
    if (same == result.end()) {
      result.push_back(p);
      result.back().name = p.of_any_expert;
      continue;
    }
    same->elements += p.elements;
    same->nonzeros += p.nonzeros;
    same->pruned += p.pruned;
    same->nonfinite += p.nonfinite;
    same->bytes += p.bytes;
  }
  return result;
}

Report parameters_of(const std::vector<InspectedParameter>& parameters) {
  Report report;
  for (const InspectedParameter& p : parameters) report.add(row_of(p));
  report.show("bytes", Display::bytes, 0);
  return report;
}

// "layers 0-5" with what they have in common. Exits and routers of depth, which only some layers have, have lines of
// their own.
std::vector<std::pair<std::string, std::string>> layer_lines(nlohmann::json layers) {
  for (nlohmann::json& layer : layers)
    for (const char* of_some : {"exit", "depth_fraction"}) layer.erase(of_some);
  std::vector<std::pair<std::string, std::string>> lines;
  for (size_t begin = 0, end; begin < layers.size(); begin = end) {
    for (end = begin + 1; end < layers.size() && layers[end] == layers[begin];) ++end;
    std::string text;
    for (const auto& [key, value] : layers[begin].items())
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", key,
                          value.is_string() ? value.get<std::string>() : value.dump());
    lines.emplace_back(
        end - begin == 1 ? fmt::format("layer {}", begin) : fmt::format("layers {} to {}", begin, end - 1), text);
  }
  return lines;
}

std::vector<std::pair<std::string, std::string>> config_lines(const InspectedModel& m) {
  std::vector<std::pair<std::string, std::string>> lines;
  for (const auto& [key, value] : m.config.items())
    if (key != "layers") lines.emplace_back(key, value.is_string() ? value.get<std::string>() : value.dump());
  if (const auto layers = m.config.find("layers"); layers != m.config.end())
    for (auto& line : layer_lines(*layers)) lines.push_back(std::move(line));
  if (const auto exits = exits_of(config_from_json(m.config, m.path)); !exits.empty())
    lines.emplace_back("exits", fmt::format("behind {} {}", fmt::join(exits, ", "),
                                            exits.size() == 1 && exits[0] == 1 ? "layer" : "layers"));
  if (const std::string calibration = describe_calibration(m.lineage); !calibration.empty())
    lines.emplace_back("calibrated exit", calibration);
  if (const std::string routers = describe_depth_routers(config_from_json(m.config, m.path)); !routers.empty())
    lines.emplace_back("depth routers", routers);
  lines.emplace_back("tokenizer",
                     fmt::format("{}, {}", m.tokenizer->name(), counted(m.tokenizer->vocabulary(), "token")));
  return lines;
}

std::string kind_of(const InspectedModel& m) {
  return m.checkpoint ? "checkpoint of a run" : "model";
}

std::string summary(const InspectedModel& m) {
  return fmt::format("{}: {}, {}, {} parameters, {} sparse", m.path, kind_of(m),
                     format_bytes(static_cast<double>(m.file_bytes)),
                     format_count(static_cast<double>(m.size.parameters)), format_percent(m.size.sparsity(), 1));
}

std::string total_line(const InspectedModel& m) {
  std::string line = fmt::format("total: {} parameters, {} not zero; {} in the file", m.size.parameters,
                                 m.size.nonzero_parameters, format_bytes(static_cast<double>(m.parameter_bytes)));
  if (m.nonfinite) line += fmt::format("; {} numbers are NaN or infinite: the model is of no use", m.nonfinite);
  if (m.checkpoint) line += fmt::format(", and {} of run state", format_bytes(static_cast<double>(m.run_bytes)));
  return line;
}

std::string value_text(const nlohmann::ordered_json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.is_number_float() ? fmt::format("{:.5g}", value.get<double>()) : value.dump();
}

// What was measured in a stage, and its seed.
std::string results_text(const nlohmann::json& stage) {
  std::string text = fmt::format("seed {}", stage.value("seed", nlohmann::json()).dump());
  if (const auto results = stage.find("results"); results != stage.end() && results->is_object())
    for (const auto& [key, value] : results->items())
      if (value.is_primitive()) text += fmt::format(", {} {}", key, value_text(value));
  return text;
}

// Losses that checkpoints before kept as the bits of a double.
bool is_bits(const std::string& key, const nlohmann::json& value) {
  static const char* names[] = {"smoothed", "lowest", "best_loss"};
  return value.is_number_unsigned() && value.get<uint64_t>() > (1u << 20) &&
         std::find(std::begin(names), std::end(names), key) != std::end(names);
}

// What the run state says, with numbers that a person or a program can use; what is not finite yet is left out.
Json readable_run(const nlohmann::json& run) {
  Json result = Json::object();
  for (const auto& [key, value] : run.items()) {
    if (!is_bits(key, value))
      result[key] = value;
    else if (const double number = std::bit_cast<double>(value.get<uint64_t>()); std::isfinite(number))
      result[key] = number;
  }
  return result;
}

// The numbers first, then what the run was told.
std::vector<std::string> run_lines(const InspectedModel& m) {
  const Json run = readable_run(m.run);
  const auto numbers = [](const Json& object) {
    std::string text;
    for (const auto& [key, value] : object.items())
      if (value.is_number() || (value.is_string() && value != ""))
        text += fmt::format("{}{} {}", text.empty() ? "" : ", ", key, value_text(value));
    return text;
  };
  std::vector<std::string> lines = {numbers(run)};
  if (const auto found = run.find("description"); found != run.end() && found->is_object())
    lines.push_back(numbers(*found));
  return lines;
}

}  // namespace

nlohmann::ordered_json to_json(const InspectedModel& m) {
  Json json = {{"schema_version", report_schema_version},
               {"version", version()},
               {"model", m.path},
               {"kind", m.checkpoint ? "checkpoint" : "model"},
               {"file_bytes", m.file_bytes},
               {"parameters", m.size.parameters},
               {"nonzero_parameters", m.size.nonzero_parameters},
               {"active_parameters", m.size.active_parameters},
               {"sparsity", m.size.sparsity()},
               {"zero_fraction", m.size.zero_fraction()},
               {"nonfinite", m.nonfinite},
               {"parameter_bytes", m.parameter_bytes},
               {"config", Json(m.config)},
               {"tokenizer", {{"name", m.tokenizer->name()}, {"vocabulary", m.tokenizer->vocabulary()}}},
               {"tensors", Json::array()},
               {"lineage", Json(m.lineage)}};
  for (const InspectedParameter& p : m.parameters) {
    json["tensors"].push_back({{"name", p.name},
                               {"form", p.form},
                               {"element", p.element},
                               {"shape", p.shape},
                               {"parameters", p.elements},
                               {"nonzero_parameters", p.nonzeros},
                               {"sparsity", p.sparsity()},
                               {"zero_fraction", p.zero_fraction()},
                               {"nonfinite", p.nonfinite},
                               {"bytes", p.bytes}});
    if (p.activation_bits > 0) json["tensors"].back()["activation_bits"] = p.activation_bits;
  }
  if (m.checkpoint) {
    json["run"] = readable_run(m.run);
    json["run_bytes"] = m.run_bytes;
  }
  return json;
}

std::string to_table(const InspectedModel& m, bool markdown) {
  std::string out = fmt::format("{}{}\n\n", markdown ? "# " : "", summary(m));
  const auto heading = [&](const char* text) {
    out += fmt::format("{}{}\n{}", markdown ? "## " : "", text, markdown ? "\n" : "");
  };
  const auto line = [&](const std::string& text) { out += fmt::format("{}{}\n", markdown ? "- " : "  ", text); };
  heading("Configuration");
  size_t widest = 0;
  for (const auto& [key, value] : config_lines(m)) widest = std::max(widest, key.size());
  for (const auto& [key, value] : config_lines(m))
    line(markdown ? fmt::format("{}: {}", key, value) : fmt::format("{:<{}}  {}", key, widest, value));
  out += "\n";
  if (markdown) heading("Parameters");
  Report report = parameters_of(with_experts_together(m.parameters));
  report.show_detail("nonzero_parameters");
  if (m.nonfinite == 0) report.show_detail("nonfinite");
  out += render(report, markdown ? Format::md : Format::table);
  out += fmt::format("{}{}\n\n", markdown ? "\n" : "", total_line(m));
  heading("Lineage");
  size_t number = 0;
  for (const nlohmann::json& stage : m.lineage) {
    line(fmt::format("{}. {}", ++number, stage_text(stage)));
    if (stage.is_object()) out += fmt::format("     {}\n", results_text(stage));
  }
  if (number == 0) line("none recorded");
  if (m.checkpoint) {
    out += "\n";
    heading("Run");
    for (const std::string& text : run_lines(m)) line(markdown ? text : wrapped(text, 100, 6));
  }
  return out;
}

std::string to_csv(const InspectedModel& m) {
  Report report = parameters_of(m.parameters);
  report.fix_csv({"parameter", "form", "element", "shape", "parameters", "nonzero_parameters", "sparsity",
                  "zero_fraction", "nonfinite", "bytes", "activation_bits", "model"});
  report.common().set("model", m.path);
  return render(report, Format::csv);
}

}  // namespace hone
