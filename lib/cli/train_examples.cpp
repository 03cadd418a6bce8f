#include "cli/train_examples.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "base/spelling.h"
#include "measure/example_scores.h"
#include "train/fingerprint.h"
#include "train/journal.h"

namespace hone::cli {
TrainingExamples::TrainingExamples(const TrainOptions& options) : o_(options) {
  if (o_.tokens) throw usage_error("--tokens counts windows of text; lines of their own take --steps or --epochs");
  if (!o_.curriculum.empty()) throw usage_error("--curriculum cuts windows of text, and lines are as long as they are");
  train_lines_ = read_examples(o_.data);
  if (!o_.valid.empty()) valid_lines_ = read_examples(o_.valid);
  if (o_.valid_fraction <= 0) return;
  const int64_t count = training_part(static_cast<int64_t>(train_lines_.all.size()), o_.valid_fraction);
  if (count < 1 || count == static_cast<int64_t>(train_lines_.all.size()))
    throw input_error("{} has {}, too few to validate on {:.4g}% of them", train_lines_.name(),
                      counted(train_lines_.all.size(), "example"), 100 * o_.valid_fraction);
  valid_lines_.files = train_lines_.files;
  valid_lines_.all.assign(train_lines_.all.begin() + count, train_lines_.all.end());
  train_lines_.all.resize(static_cast<size_t>(count));
}

std::vector<TextSource> TrainingExamples::texts() const {
  std::string all;
  for (const Example& example : train_lines_.all) {
    for (const ExamplePart& part : example.parts)
      if (!part.medium) all += part.value;
    all += example.answer + "\n";
  }
  return {text_in_memory(std::move(all), train_lines_.name())};
}

void TrainingExamples::open(std::shared_ptr<const Tokenizer> tokenizer, const Config& config, int64_t context) {
  train_ = std::make_shared<SequenceReader>(train_lines_, tokenizer, config, context, o_.lines.feed(true));
  if (!valid_lines_.all.empty())
    valid_ = std::make_shared<SequenceReader>(valid_lines_, tokenizer, config, context, o_.lines.feed(false));
}

void TrainingExamples::describe(nlohmann::json& description) const {
  description["training_text"] = fingerprint(train_lines_);
  if (valid_ && (o_.keep == "best" || o_.patience > 0)) description["validation_text"] = fingerprint(valid_lines_);
}

void TrainingExamples::describe_files(nlohmann::json& description) const {
  description["training_files"] = fingerprint_of_files(train_lines_);
  if (valid_) description["validation_files"] = fingerprint_of_files(valid_lines_);
}

void TrainingExamples::name_encoders(const Config& config, Journal& journal) const {
  std::vector<std::string> names;
  for (const std::string& encoder : config.encoders) names.emplace_back(encoder_kind(encoder)->medium().name);
  journal.set_encoders(std::move(names));
}

std::function<double()> TrainingExamples::validation(const Transformer& model, const RunSettings& settings) const {
  if (!valid_) return {};
  // Each counts what is broken among all, where that is left out.
  const auto ranks = valid_->skips_broken() ? alone() : settings.step.grid.copies;
  return [reader = valid_, &model, type = settings.step.type, ranks] {
    const ExampleScores scores = score_examples(model, *reader, type, 0, {}, ranks);
    std::string text;
    for (const auto& [kinds, of] : scores.kinds)
      text +=
          fmt::format("{}{} {:.2f}% of {}", text.empty() ? "" : ", ", kinds, 100 * of.accuracy(), of.windows().size());
    log_info("validation accuracy: {}", text);
    return scores.loss();
  };
}

void TrainingExamples::say_broken() const {
  const int64_t broken = train_->broken() + (valid_ ? valid_->broken() : 0);
  if (broken > 0)
    log_warning("left out {} whose files cannot be read (--log-level debug names them)", counted(broken, "example"));
}

}  // namespace hone::cli
