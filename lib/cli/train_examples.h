// Training on lines that are sequences of their own: text, images and sounds.
#pragma once

#include <functional>
#include <memory>

#include "cli/train_options.h"
#include "dataset/reader.h"
#include "feed/sequence.h"

namespace hone {
class Journal;
}

namespace hone::cli {

class TrainingExamples {
 public:
  // Reads the lines of --data and --valid, or parts the last of --valid-fraction. Error(input), Error(usage).
  explicit TrainingExamples(const TrainOptions& options);

  std::vector<TextSource> texts() const;  // of the lines to train on, for a tokenizer
  // Checks that the model takes what the lines have.
  void open(std::shared_ptr<const Tokenizer> tokenizer, const Config& config, int64_t context);
  const SequenceReader& train() const { return *train_; }
  std::shared_ptr<SequenceReader> train_reader() const { return train_; }
  const SequenceReader* valid() const { return valid_.get(); }
  void describe(nlohmann::json& description) const;  // fingerprints of the lines
  // And of their images and sounds, which ranks must have alike: one that skips another line trains on other batches.
  void describe_files(nlohmann::json& description) const;
  void name_encoders(const Config& config, Journal& journal) const;
  // The loss on the validation lines, with the accuracy of answers said on the way; empty without any.
  std::function<double()> validation(const Transformer& model, const RunSettings& settings) const;
  void say_broken() const;

 private:
  const TrainOptions& o_;
  Examples train_lines_, valid_lines_;
  std::shared_ptr<SequenceReader> train_, valid_;
};

}  // namespace hone::cli
