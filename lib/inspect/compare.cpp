#include "inspect/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/stop.h"

namespace hone {
namespace {

// Of CSV, in order.
std::vector<std::string> columns() {
  return {"part",         "name",    "difference", "a",       "b",      "differing", "max_abs_difference",
          "mask_changes", "zeros_a", "zeros_b",    "model_a", "model_b"};
}

std::string text_of(const nlohmann::json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// {"layers": [{"heads": 6}]} as {"layers.0.heads": 6}.
void flatten(const nlohmann::json& value, const std::string& name, std::map<std::string, nlohmann::json>& into) {
  const auto inner = [&](const std::string& key) { return name.empty() ? key : name + "." + key; };
  if (value.is_object())
    for (const auto& [key, member] : value.items()) flatten(member, inner(key), into);
  else if (value.is_array())
    for (size_t i = 0; i < value.size(); ++i) flatten(value[i], inner(std::to_string(i)), into);
  else
    into[name] = value;
}

Row row_of(const char* part, const std::string& name, const char* difference, const std::string& a,
           const std::string& b) {
  Row row;
  row.set("part", part).set("name", name).set("difference", difference).set("a", a).set("b", b);
  return row;
}

void compare_config(const InspectedModel& a, const InspectedModel& b, Report& report) {
  std::map<std::string, nlohmann::json> ours, theirs;
  flatten(a.config, "", ours);
  flatten(b.config, "", theirs);
  for (const auto& [key, value] : ours) {
    const auto other = theirs.find(key);
    if (other == theirs.end())
      report.add(row_of("config", key, "only in a", text_of(value), ""));
    else if (other->second != value)
      report.add(row_of("config", key, "value", text_of(value), text_of(other->second)));
  }
  for (const auto& [key, value] : theirs)
    if (!ours.contains(key)) report.add(row_of("config", key, "only in b", "", text_of(value)));
}

std::string tokenizer_text(const InspectedModel& m) {
  return fmt::format("{}, {} tokens", m.tokenizer->name(), m.tokenizer->vocabulary());
}

void compare_lineage(const InspectedModel& a, const InspectedModel& b, Report& report) {
  for (size_t i = 0; i < std::max(a.lineage.size(), b.lineage.size()); ++i) {
    const nlohmann::json ours = i < a.lineage.size() ? a.lineage[i] : nlohmann::json();
    const nlohmann::json theirs = i < b.lineage.size() ? b.lineage[i] : nlohmann::json();
    if (ours == theirs) continue;
    const char* difference = theirs.is_null() ? "only in a" : ours.is_null() ? "only in b" : "value";
    report.add(row_of("lineage", fmt::format("stage {}", i + 1), difference, ours.is_null() ? "" : stage_text(ours),
                      theirs.is_null() ? "" : stage_text(theirs)));
  }
}

std::string form_of(const InspectedParameter& p) {
  const std::string text = fmt::format("{} {} {}", p.form, p.element, to_string(p.shape));
  return p.activation_bits > 0 ? fmt::format("{}, {}-bit activations", text, p.activation_bits) : text;
}

struct Differences {
  int64_t differing = 0, mask_changes = 0, zeros_a = 0, zeros_b = 0;
  double largest = 0;
};

void compare_values(const Tensor& a, const Tensor& b, Differences& d) {
  const std::span<const float> x = a.span<float>(), y = b.span<float>();
  for (size_t i = 0; i < x.size(); ++i) {
    d.zeros_a += x[i] == 0;
    d.zeros_b += y[i] == 0;
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) continue;
    ++d.differing;
    // A NaN on one side is the largest of differences and stays it.
    const double distance = std::abs(static_cast<double>(x[i]) - static_cast<double>(y[i]));
    if (!(distance <= d.largest)) d.largest = distance;
  }
}

void compare_parameter(const InspectedParameter& a, const InspectedParameter& b, Report& report) {
  if (a.shape != b.shape) {
    report.add(row_of("parameter", a.name, "shape", form_of(a), form_of(b)));
    return;
  }
  check_stop();
  Differences d;
  compare_values(a.weight ? a.weight->to_dense() : a.value, b.weight ? b.weight->to_dense() : b.value, d);
  if (a.weight && b.weight) d.mask_changes = count_differences(a.weight->mask(), b.weight->mask());
  for (const InspectedParameter* p : {&a, &b})
    if (p->weight) p->weight->let_go();
  const bool form = a.form != b.form || a.element != b.element || a.activation_bits != b.activation_bits;
  if (!form && d.differing == 0 && d.mask_changes == 0) return;
  const char* what = !form ? (d.differing ? "values" : "mask") : d.differing ? "form, values" : "form";
  Row row = row_of("parameter", a.name, what, form_of(a), form_of(b));
  row.set("differing", d.differing)
      .set("max_abs_difference", d.largest)
      .set("mask_changes", d.mask_changes)
      .set("zeros_a", d.zeros_a)
      .set("zeros_b", d.zeros_b);
  report.add(row);
}

void compare_parameters(const InspectedModel& a, const InspectedModel& b, Report& report) {
  std::map<std::string, const InspectedParameter*> theirs;
  for (const InspectedParameter& p : b.parameters) theirs[p.name] = &p;
  for (const InspectedParameter& p : a.parameters) {
    const auto other = theirs.find(p.name);
    if (other == theirs.end()) {
      report.add(row_of("parameter", p.name, "only in a", form_of(p), ""));
      continue;
    }
    compare_parameter(p, *other->second, report);
    theirs.erase(other);
  }
  for (const InspectedParameter& p : b.parameters)
    if (theirs.contains(p.name)) report.add(row_of("parameter", p.name, "only in b", "", form_of(p)));
}

}  // namespace

Report compare_models(const InspectedModel& a, const InspectedModel& b) {
  Report report;
  compare_config(a, b, report);
  if (a.tokenizer_json != b.tokenizer_json)
    report.add(row_of("tokenizer", "tokenizer", "value", tokenizer_text(a), tokenizer_text(b)));
  compare_lineage(a, b, report);
  compare_parameters(a, b, report);
  report.fix_csv(columns());
  report.common().set("model_a", a.path).set("model_b", b.path);
  return report;
}

}  // namespace hone
