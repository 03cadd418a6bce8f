// Scores of a model on examples of text, images and sounds.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "comm/communicator.h"
#include "feed/sequence.h"
#include "model/transformer.h"
#include "report/scores.h"

namespace hone {

struct ExampleScores {
  Scores all;                           // a window is an example
  std::map<std::string, Scores> kinds;  // by the media that are there (mix_name)
  std::vector<EncoderLoad> encoders;
  double loss() const { return all.loss(); }
};

// The answer of each example, predicted whole or not (its tokens; what ends it does not count), and the loss of its
// tokens. Examples without an answer count the tokens that the reader's settings score, each by itself. In order, up to
// `limit` (0: all); what is broken and skipped does not count. Scores do not depend on how examples are batched.
// `ranks` with the same of the model share the examples: called on each, it reads its own and gives the score of all,
// the same to the bit. The loads of encoders are of this rank's.
ExampleScores score_examples(const Transformer& model, SequenceReader& reader, DType type, int64_t limit = 0,
                             const std::function<void(int64_t done, int64_t all)>& progress = {},
                             const std::shared_ptr<Communicator>& ranks = alone());

// accuracy_image, accuracy_audio, accuracy_image_audio and their standard errors, of the kinds that are there.
void add_kinds(const ExampleScores& scores, MetricValues& values);

}  // namespace hone
