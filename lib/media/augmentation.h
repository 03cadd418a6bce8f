// Small changes of what a medium has that leave what it says: more examples than there are.
#pragma once

#include <span>
#include <string>

#include "base/random.h"
#include "media/decoded.h"
#include "media/features.h"

namespace hone {

// Of one medium, with its numbers. All that is drawn comes from `random`.
class Augmentation {
 public:
  virtual ~Augmentation() = default;
  virtual Decoded changed(const Decoded& decoded, Random& random) const = 0;
  // Behind that, of what an encoder has made of it.
  virtual void mask(Features& /*features*/, Random& /*random*/) const {}
};

namespace media {

// A number of an augmentation, and the largest that is taken.
struct AugmentationNumber {
  const char* name;
  double* value;
  double most;
  bool whole = false;  // no parts of one
};

// "shift:2,rotate:10,scale:0.1": the most that is drawn, evenly, both ways; what is not named stays. Throws
// Error(usage), with `option`, for other names or one twice, for numbers below 0 or above the largest, and for
// parts of what is counted whole.
void parse_augmentation(const std::string& text, const std::string& option, std::span<const AugmentationNumber> known);

double drawn(double most, Random& random);  // evenly from -most to most

}  // namespace media
}  // namespace hone
