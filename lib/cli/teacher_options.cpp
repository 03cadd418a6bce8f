#include "cli/teacher_options.h"

#include <filesystem>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "base/units.h"
#include "cli/effects.h"
#include "cli/ranks.h"
#include "dataset/tokenizer.h"
#include "kernels/rows/divergence.h"
#include "measure/activations.h"
#include "train/fingerprint.h"
#include "train/teacher_cache.h"

namespace hone::cli {
namespace {

std::optional<double> number_of(const std::string& text) {
  try {
    return parse_number(text);
  } catch (const Error&) {
    return std::nullopt;
  }
}

TeacherCacheKey key_of(const TeacherSpec& spec, const std::string& sha256, const Corpus& text, int64_t context,
                       int64_t top) {
  return {fingerprint(text), sha256, context, spec.temperature, top};
}

}  // namespace

// A name may have colons, so numbers are what stands behind the last of them.
TeacherSpec parse_teacher(const std::string& text) {
  TeacherSpec spec = {.path = text};
  std::vector<double> numbers;
  while (numbers.size() < 2) {
    const size_t colon = spec.path.rfind(':');
    const auto number = colon == std::string::npos ? std::nullopt : number_of(spec.path.substr(colon + 1));
    if (!number) break;
    numbers.insert(numbers.begin(), *number);
    spec.path.resize(colon);
  }
  if (!numbers.empty()) spec.weight = numbers[0];
  if (numbers.size() == 2) spec.temperature = numbers[1];
  if (spec.path.empty())
    throw usage_error("--teacher '{}' names no file; give FILE, FILE:WEIGHT or FILE:WEIGHT:TEMPERATURE", text);
  if (!(spec.weight >= 0 && spec.weight <= 1e6))
    throw usage_error("--teacher '{}': the weight must be from 0 to 1000000, not {}", text, spec.weight);
  if (!(spec.temperature >= 0.01 && spec.temperature <= 100))
    throw usage_error("--teacher '{}': the temperature must be from 0.01 to 100, not {}", text, spec.temperature);
  return spec;
}

void TeacherOptions::add(RunOptions& run) {
  run.group("Teacher", "Learn from another model's predictions beside the text");
  run.text("--teacher", teacher,
           "FILE[:WEIGHT[:TEMPERATURE]]: adds WEIGHT times the divergence from this model's predictions (1 and 1)")
      .shapes(Shapes::derived, "teacher");
  run.number("--teacher-hidden", hidden,
             "Weight of the distance between what teacher and model hold behind equal layers; 0: none",
             {.least = 0, .most = 1e6})
      .shapes(Shapes::run);
  run.text("--teacher-cache", cache,
           "File of the teacher's predictions for the training text: written where there is none, then read instead of "
           "the teacher")
      .type_name("FILE")
      .shapes(Shapes::derived, "teacher_cache");
  run.count("--teacher-top", top, "Likeliest tokens that the cache keeps of each position; all others are one",
            {.least = 1, .most = kernels::TopPredictions::most})
      .shapes(Shapes::derived, "teacher_cache");
}

void TeacherOptions::check(const CLI::App& app) const {
  for (const char* option : {"--teacher-cache", "--teacher-hidden"})
    if (!teacher && given(app, option)) throw usage_error("{} has no effect without --teacher", option);
  if (cache.empty() && given(app, "--teacher-top"))
    throw usage_error("--teacher-top has no effect without --teacher-cache");
  if (!teacher) return;
  const TeacherSpec spec = parse_teacher(*teacher);
  if (hidden > 0 && !cache.empty())
    throw usage_error("--teacher-hidden needs the teacher itself; leave out --teacher-cache");
  if (spec.weight == 0 && hidden == 0)
    throw usage_error("--teacher '{}' has no effect: its weight is 0, and there is no --teacher-hidden", *teacher);
  if (!cache.empty() && !std::filesystem::exists(cache)) require_writable(cache, false);
}

std::string TeacherOptions::sha256() const {
  if (sha256_->empty()) *sha256_ = sha256_of_file(path());
  return *sha256_;
}

nlohmann::json TeacherOptions::description_of_none() {
  return {{"teacher", nullptr}, {"teacher_cache", nullptr}};
}

nlohmann::json TeacherOptions::description(int64_t context) const {
  nlohmann::json all = description_of_none();
  if (!teacher) return all;
  const TeacherSpec spec = parse_teacher(*teacher);
  all["teacher"] = {{"sha256", sha256()}, {"weight", spec.weight}, {"temperature", spec.temperature}};
  if (!cache.empty()) all["teacher_cache"] = {{"top", top}, {"context", context}};
  return all;
}

nlohmann::json TeacherOptions::lineage() const {
  if (!teacher) return nullptr;
  nlohmann::json entry = description(0)["teacher"];
  if (hidden > 0) entry["hidden_weight"] = hidden;
  if (!cache.empty()) entry["top"] = top;
  return entry;
}

void TeacherOptions::check_fits(const Model& teacher_model, const Model& student, const RunSettings& settings) const {
  const Config &t = teacher_model.transformer->config(), &s = student.transformer->config();
  if (teacher_model.tokenizer != student.tokenizer || t.vocabulary != s.vocabulary)
    throw usage_error(
        "the teacher '{}' has another tokenizer ({}, {} tokens) than the model ({}, {}): it predicts other tokens",
        path(), make_tokenizer(teacher_model.tokenizer)->name(), t.vocabulary,
        make_tokenizer(student.tokenizer)->name(), s.vocabulary);
  if (t.padded_vocabulary != s.padded_vocabulary)
    throw usage_error("the teacher '{}' pads its vocabulary to {}, the model to {}", path(), t.padded_vocabulary,
                      s.padded_vocabulary);
  if (settings.context > max_positions(t))
    throw usage_error("the teacher '{}' has {} learned positions, and windows have {} tokens; use a shorter --context",
                      path(), t.context, settings.context);
  if (hidden > 0 && (t.block.dim != s.block.dim || t.layers.size() != s.layers.size()))
    throw usage_error("--teacher-hidden compares equal layers: '{}' has {} of dim {}, the model {} of dim {}", path(),
                      t.layers.size(), t.block.dim, s.layers.size(), s.block.dim);
}

// Ranks that have the student in parts have the teacher so, where they can. What is to be kept of it one of them alone
// computes.
Model TeacherOptions::loaded(const Model& student, const RunSettings& settings) const {
  ModelRanks ranks;
  if (const ModelRanks& row = settings.step.grid.row; row && cache.empty()) {
    ReadOptions read;
    read.parameters = false;
    const std::string name = fmt::format("'{}'", path());
    ranks = if_they_divide(row, config_from_json(read_model_file(path(), read).config, name),
                           student.transformer->config(), "teacher " + name);
  }
  Model model = load_model(path(), {}, nullptr, ranks);
  agree(ranks ? *ranks.group : *alone(), [&] {
    require_finite(model);
    check_fits(model, student, settings);
  });
  return model;
}

void TeacherOptions::load(const Model& student, const Corpus& text, RunSettings& settings) {
  if (!teacher) return;
  const TeacherSpec spec = parse_teacher(*teacher);
  DistillationSettings& d = settings.step.objectives.distillation;
  d.weight = static_cast<float>(spec.weight);
  d.temperature = static_cast<float>(spec.temperature);
  d.hidden_weight = static_cast<float>(hidden);
  vocabulary_ = student.transformer->config().vocabulary;
  if (!cache.empty() && top > vocabulary_)
    throw usage_error("--teacher-top {} is more than the {} tokens there are", top, vocabulary_);
  if (!cache.empty() && std::filesystem::exists(cache)) {
    d.teacher = cached_teacher(cache, key_of(spec, sha256(), text, settings.context, top), vocabulary_);
    return;
  }
  std::shared_ptr<Transformer> model = loaded(student, settings).transformer;
  if (settings.context > model->config().context) model->set_context(settings.context);
  const TrainingShape shape = {.batch = settings.step.batch, .context = settings.context, .type = settings.step.type};
  d.bytes = teacher_bytes(*model, shape, hidden > 0);
  d.teacher = model_teacher(model);
  if (!cache.empty()) {
    model_ = model;
    log_info("'{}' will take {}", cache, format_bytes(teacher_cache_bytes(text.size() - 1, top, vocabulary_)));
  }
}

void TeacherOptions::fill_cache(const Corpus& text, RunSettings& settings) {
  if (!model_) return;
  const TeacherCacheKey key = key_of(parse_teacher(*teacher), sha256(), text, settings.context, top);
  write_teacher_cache(cache, key, *model_, text, settings.step.type);
  take_cache(text, settings);
}

void TeacherOptions::take_cache(const Corpus& text, RunSettings& settings) {
  if (!model_) return;
  const TeacherCacheKey key = key_of(parse_teacher(*teacher), sha256(), text, settings.context, top);
  model_.reset();
  settings.step.objectives.distillation.teacher = cached_teacher(cache, key, vocabulary_);
}

}  // namespace hone::cli
