#include "train/journal.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "measure/memory.h"
#include "report/plot.h"

namespace hone {

Journal::Journal(const std::string& log, const std::string& plot, std::optional<int64_t> resumed)
    : log_(log, true), plot_(plot, true) {
  if (!log_) return;
  std::string kept;
  if (resumed && !log_.stream() && std::filesystem::exists(log)) kept = read(read_text_file(log), *resumed);
  log_.write(kept);
}

// What lies beyond the checkpoint is done again. A last line without its end is of a run that was killed while it
// wrote.
std::string Journal::read(const std::string& text, int64_t until) {
  std::string kept;
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    try {
      const nlohmann::json object = parse_json(line);
      const auto step = object.at("step").get<int64_t>();
      if (step > until) continue;
      std::optional<double> valid_loss;
      if (object.contains("valid_loss")) valid_loss = object.at("valid_loss").get<double>();
      draw(step, object.at("loss").get<double>(), valid_loss);
    } catch (const nlohmann::json::exception&) {
      throw input_error(
          "'{}' line {} is no line of a run's log; give the log of the run that is resumed, or a new file", log_.path(),
          number);
    }
    kept += line + "\n";
  }
  return kept;
}

void Journal::draw(int64_t step, double loss, std::optional<double> valid_loss) {
  losses_.x.push_back(static_cast<double>(step));
  losses_.y.push_back(loss);
  if (!valid_loss) return;
  valid_losses_.x.push_back(static_cast<double>(step));
  valid_losses_.y.push_back(*valid_loss);
}

namespace {

// Returns the reason.
std::string warned_of(const TextOutput& output, const Error& error) {
  log_warning("'{}' is not complete: {}", output.path(), error.what());
  return error.what();
}

nlohmann::ordered_json to_json(const ModelDepth& layers) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (size_t i = 0; i < layers.size(); ++i)
    if (const LayerDepth& l = layers[i]; l.tokens > 0)
      list.push_back({{"layer", i}, {"fraction", l.fraction()}, {"agreement", l.agreement()}});
  return list;
}

nlohmann::ordered_json to_json(const std::vector<LayerRouting>& layers) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (size_t i = 0; i < layers.size(); ++i) {
    const LayerRouting& l = layers[i];
    if (l.load.empty()) continue;
    list.push_back({{"layer", i},
                    {"load", l.load},
                    {"largest_load_over_mean", l.largest_over_mean()},
                    {"router_entropy", l.mean_entropy()},
                    {"dropped_tokens", l.dropped},
                    {"balance_loss", l.balance_loss / static_cast<double>(l.calls)},
                    {"z_loss", l.z_loss / static_cast<double>(l.calls)}});
  }
  return list;
}

}  // namespace

void Journal::add(int64_t step, int64_t tokens, const StepResult& result, std::optional<double> valid_loss,
                  double tokens_per_second) {
  draw(step, result.loss, valid_loss);
  if (!log_) return;
  nlohmann::ordered_json line = {{"step", step}, {"tokens", tokens}, {"loss", result.loss}};
  if (valid_loss) line["valid_loss"] = *valid_loss;
  if (windows_) line["context"] = result.context;
  line["learning_rate"] = result.learning_rate;
  line["gradient_norm"] = result.gradient_norm;
  line["tokens_per_second"] = tokens_per_second;
  line["rss_bytes"] = rss_bytes();
  if (result.optimizer_bytes > 0) line["optimizer_bytes"] = result.optimizer_bytes;
  if (result.activation_bytes > 0) line["activation_bytes"] = result.activation_bytes;
  if (result.terms.size() > 1) line["terms"] = result.terms;
  for (const auto& [depth, losses] : result.exit_losses)
    line["exit_losses"][depth] = losses.first / static_cast<double>(losses.second);
  for (size_t e = 0; e < encoders_.size() && e < result.encoders.size(); ++e)
    line["encoders"][encoders_[e]] = {{"parts", result.encoders[e].parts}, {"rows", result.encoders[e].rows}};
  if (!encoders_.empty() && result.rows > 0)
    line["padding_fraction"] = 1 - static_cast<double>(result.data_rows) / static_cast<double>(result.rows);
  if (result.pairs > 0) line["pairs"] = result.pairs;
  if (const LayerDepth all = sum(result.depth); all.tokens > 0)
    line["depth"] = {{"agreement", all.agreement()}, {"layers", to_json(result.depth)}};
  if (!result.routing.empty()) {
    line["router_loss"] = result.router_loss;
    line["routing"] = to_json(result.routing);
  }
  try {
    log_.append(line.dump() + "\n");
  } catch (const Error& error) {
    log_missing_ = warned_of(log_, error);
    log_ = {};
  }
}

void Journal::finish() {
  if (!plot_) return;
  Plot plot;
  plot.title = "Training";
  plot.x.label = windows_ ? fmt::format("step ({})", *windows_) : "step";
  plot.y.label = "loss (nats/token)";
  if (!losses_.x.empty()) plot.series.push_back(losses_);
  if (!valid_losses_.x.empty()) plot.series.push_back(valid_losses_);
  try {
    plot_.write(render_svg(plot));
  } catch (const Error& error) {
    plot_missing_ = warned_of(plot_, error);
  }
}

}  // namespace hone
