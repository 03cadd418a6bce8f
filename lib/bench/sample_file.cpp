#include "bench/sample_file.h"

#include <algorithm>
#include <limits>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/json.h"
#include "bench/eval_result.h"

namespace hone {
namespace {

using nlohmann::json;

// JSON has no NaN.
double number_of(const json& j) {
  return j.is_null() ? std::numeric_limits<double>::quiet_NaN() : j.get<double>();
}

json json_of(const std::vector<WindowDivergence>& all) {
  json j = json::array();
  for (const WindowDivergence& d : all) j.push_back({d.kl, d.agree, d.tokens});
  return j;
}

std::vector<WindowDivergence> divergences_of(const json& j) {
  std::vector<WindowDivergence> all;
  for (const json& d : j) all.push_back({number_of(d.at(0)), d.at(1).get<int64_t>(), d.at(2).get<int64_t>()});
  return all;
}

std::vector<WindowScore> scores_of(json j) {
  for (json& score : j)
    if (score.at(0).is_null()) score[0] = std::numeric_limits<double>::quiet_NaN();
  return window_scores_of(j);
}

// What went through one model so far.
json counted_of(const AttentionMeter* attention, const ModelRouting* routing, const ModelDepth* depth) {
  json j = json::object();
  if (attention) j["attention"] = {attention->visible_pairs, attention->causal_pairs};
  if (routing && !routing->empty()) j["routing"] = to_json(*routing);
  for (const LayerDepth& layer : depth ? *depth : ModelDepth())
    j["depth"].push_back({layer.tokens, layer.passed, layer.compared, layer.agreed});
  return j;
}

void restore(const json& counted, AttentionMeter* attention, ModelRouting* routing, ModelDepth* depth) {
  if (attention && counted.contains("attention")) {
    attention->visible_pairs = counted.at("attention").at(0).get<int64_t>();
    attention->causal_pairs = counted.at("attention").at(1).get<int64_t>();
  }
  if (routing && counted.contains("routing")) *routing = routing_of(counted.at("routing"));
  if (!depth || !counted.contains("depth")) return;
  depth->clear();
  for (const json& layer : counted.at("depth"))
    depth->push_back({layer.at(0).get<int64_t>(), layer.at(1).get<int64_t>(), layer.at(2).get<int64_t>(),
                      layer.at(3).get<int64_t>()});
}

}  // namespace

std::string digest_of(const Questions& questions) {
  json all = json::array();
  for (const Question* q : questions.questions) {
    all.push_back({q->prompt, q->answers, q->prompts, q->id});
    all.back().push_back(q->label ? json(*q->label) : json());
  }
  for (const EvalWindow& w : questions.windows) all.push_back({w.begin, w.length, w.first_scored});
  return sha256_of(all.dump(-1, ' ', false, json::error_handler_t::replace));
}

// Of one model.
class SampleFile::Log : public GroupLog {
 public:
  Log(PartFile& part, size_t model) : part_(part), model_(model) {}

  // A line of the part. False, or an exception of json: it is none.
  bool take(const json& line) {
    const auto windows = line.at("windows").get<std::vector<size_t>>();
    GroupScores scores = {scores_of(line.at("scores")), scores_of(line.value("baseline", json::array())),
                          divergences_of(line.value("divergences", json::array()))};
    if (windows.empty() || scores.model.size() != windows.size()) return false;
    for (const size_t size : {scores.baseline.size(), scores.divergences.size()})
      if (size != 0 && size != windows.size()) return false;
    counted_ = line.at("counted");
    AttentionMeter attention;
    ModelRouting routing;
    ModelDepth depth;
    for (const char* whose : {"model", "baseline"})
      restore(counted_.value(whose, json::object()), &attention, &routing, &depth);
    const size_t first = windows.front();
    found_[first] = {windows, std::move(scores)};
    return true;
  }

  int64_t found() const {
    int64_t sum = 0;
    for (const auto& [first, group] : found_) sum += static_cast<int64_t>(group.first.size());
    return sum;
  }

  void begin(EvaluateSettings& settings) {
    settings_ = &settings;
    restore(counted_.value("model", json::object()), settings.attention, settings.routing, settings.depth);
    restore(counted_.value("baseline", json::object()), settings.baseline_attention, settings.baseline_routing,
            settings.baseline_depth);
  }

  const GroupScores* find(std::span<const size_t> windows) const override {
    const auto found = found_.find(windows.front());
    return found != found_.end() && std::ranges::equal(found->second.first, windows) ? &found->second.second : nullptr;
  }

  void add(std::span<const size_t> windows, GroupScores scores) override {
    const EvaluateSettings& s = *settings_;
    json line = {{"model", model_},
                 {"windows", std::vector<size_t>(windows.begin(), windows.end())},
                 {"scores", to_json(std::span<const WindowScore>(scores.model))},
                 {"counted",
                  {{"model", counted_of(s.attention, s.routing, s.depth)},
                   {"baseline", counted_of(s.baseline_attention, s.baseline_routing, s.baseline_depth)}}}};
    if (!scores.baseline.empty()) line["baseline"] = to_json(std::span<const WindowScore>(scores.baseline));
    if (!scores.divergences.empty()) line["divergences"] = json_of(scores.divergences);
    part_.put(line.dump());
  }

 private:
  PartFile& part_;
  size_t model_;
  std::map<size_t, std::pair<std::vector<size_t>, GroupScores>> found_;  // by their first window
  json counted_ = json::object();                                        // by the last of them
  const EvaluateSettings* settings_ = nullptr;
};

SampleFile::SampleFile(const std::string& path, const json& of, bool force) : part_(path, of, force) {
  for (size_t model = 0; model < of.at("models").size(); ++model) logs_.push_back(std::make_unique<Log>(part_, model));
  int64_t row = 1;
  for (const std::string& text : part_.take_found()) {
    ++row;
    bool good = false;
    try {
      const json line = parse_json(text);
      good = line.is_object() && logs_.at(line.at("model").get<size_t>())->take(line);
    } catch (const std::exception&) {  // of another kind, or not there
    }
    if (!good) throw input_error("'{}' is damaged (line {}); have it begun anew", part_.name(), row);
  }
}

SampleFile::~SampleFile() = default;

int64_t SampleFile::found() const {
  int64_t sum = 0;
  for (const auto& log : logs_) sum += log->found();
  return sum;
}

void SampleFile::begin(size_t model, EvaluateSettings& settings) {
  settings.log = logs_.at(model).get();
  logs_.at(model)->begin(settings);
}

void SampleFile::remove() {
  part_.remove();
}

}  // namespace hone
