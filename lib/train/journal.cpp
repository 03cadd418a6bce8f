#include "train/journal.h"

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "measure/memory.h"
#include "measure/plot.h"

namespace hone {

Journal::Journal(const std::string& log, std::string plot, bool append)
    : log_(nullptr, std::fclose), path_(log), plot_(std::move(plot)) {
  if (log.empty()) return;
  log_.reset(std::fopen(log.c_str(), append ? "a" : "w"));
  if (!log_) throw input_error("cannot write '{}': {}", log, std::strerror(errno));
}

namespace {

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
  losses_.x.push_back(static_cast<double>(step));
  losses_.y.push_back(result.loss);
  if (valid_loss) {
    valid_losses_.x.push_back(static_cast<double>(step));
    valid_losses_.y.push_back(*valid_loss);
  }
  if (!log_) return;
  nlohmann::ordered_json line = {{"step", step}, {"tokens", tokens}, {"loss", result.loss}};
  if (valid_loss) line["valid_loss"] = *valid_loss;
  line["learning_rate"] = result.learning_rate;
  line["gradient_norm"] = result.gradient_norm;
  line["tokens_per_second"] = tokens_per_second;
  line["rss_bytes"] = rss_bytes();
  if (!result.routing.empty()) {
    line["router_loss"] = result.router_loss;
    line["routing"] = to_json(result.routing);
  }
  const std::string text = line.dump() + "\n";
  // Each line reaches the file at once: a run that is killed leaves the log of what it did.
  if (std::fwrite(text.data(), 1, text.size(), log_.get()) != text.size() || std::fflush(log_.get()) != 0)
    throw input_error("cannot write '{}': {}", path_, std::strerror(errno));
}

void Journal::finish() {
  if (plot_.empty()) return;
  Plot plot;
  plot.title = "Training";
  plot.x.label = "step";
  plot.y.label = "loss (nats/token)";
  if (!losses_.x.empty()) plot.series.push_back(losses_);
  if (!valid_losses_.x.empty()) plot.series.push_back(valid_losses_);
  write_text_file(plot_, render_svg(plot));
}

}  // namespace hone
