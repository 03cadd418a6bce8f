// What exits of a model predict on a text, and which threshold keeps a promise.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "dataset/corpus.h"
#include "model/exit_calibration.h"
#include "model/transformer.h"

namespace hone {

struct ExitScanSettings {
  int64_t context = 256, stride = 256;
  int64_t limit = 0;  // tokens of the text, from its start; 0: all
  DType type = DType::f32;
  const ExitCriterion* criterion = nullptr;
  std::function<void(int64_t done, int64_t all)> progress;  // windows; may be empty
};

// Of every scored token, at each exit and behind all layers. Keys and values of earlier tokens are those of all layers,
// as generation fills them in (Session::Filling::exact): a token that leaves early changes nothing for later ones.
struct ExitScan {
  std::vector<int64_t> depths;   // ascending; the last is all layers
  std::vector<float> losses;     // [tokens, depths] nats
  std::vector<uint8_t> correct;  // [tokens, depths] the largest logit is the target's
  std::vector<uint8_t> agrees;   // [tokens, depths] it is that of all layers
  std::vector<float> measured;   // [tokens, depths] the criterion's number
  std::vector<int64_t> windows;  // the first token of each window, and the end

  int64_t tokens() const { return static_cast<int64_t>(losses.size() / depths.size()); }
};
// Throws Error(usage) for a model without exits, Error(input) for a text of fewer than two tokens.
ExitScan scan_exits(const Transformer& model, const Corpus& text, const ExitScanSettings& settings);

// Means over the tokens.
struct ExitScores {
  double loss = 0, accuracy = 0, agreement = 0, mean_depth = 0;
  std::vector<double> shares;         // of tokens that end at each depth
  std::vector<double> disagreements;  // of each window: the part of its tokens that is predicted otherwise
};
ExitScores scores_of(const ExitScan& scan, const ExitRule& rule);  // each token ends at the first exit that is sure
ExitScores scores_at(const ExitScan& scan, size_t depth);          // all end at depths[depth]

// A p-value of "the mean is above `bound`" for `n` independent numbers in [0, 1] of mean `mean`: the smaller of
// Hoeffding's and Bentkus's (Bates et al., arXiv 2101.02703, section 3.1.1), used by CALM (arXiv 2207.07061).
double hoeffding_bentkus(double mean, int64_t n, double bound);

struct CalibratedExits {
  ExitCalibration calibration;
  ExitScores scores;                // with it, on the text it was found on
  double p_value = 0;               // of the hypothesis that it breaks the promise
  int64_t windows = 0, tested = 0;  // thresholds that were tested, of a list that no text changes
};
// Learn-then-Test (Angelopoulos et al., arXiv 2110.01052): thresholds are tested one after the other, from the surest,
// at level 1 - confidence, up to the first whose hypothesis stands; the one before it is taken. Windows are the
// independent units. Throws Error(usage) for an agreement outside (0, 1), Error(input) where the text is too short for
// the promise whatever it shows (saying how many tokens are needed), or where even the surest threshold does not keep
// it.
CalibratedExits calibrate_exits(const ExitScan& scan, const ExitCriterion& criterion, double agreement, int64_t context,
                                double confidence = 0.95);
// Windows without which no promise can be kept: all of them without a disagreement.
int64_t windows_needed(double agreement, double confidence);
// The same where so large a part of the tokens disagrees, to a sixteenth; none where a million would not do.
std::optional<int64_t> windows_needed(double disagreement, double agreement, double confidence);

// Thresholds to look at, from the surest.
std::vector<double> exit_thresholds(const ExitCriterion& criterion, int64_t count);

}  // namespace hone
