// What of the objectives is wanted.
#pragma once

namespace hone {

// Of the exits of a model (model/exits.h).
struct ExitLossSettings {
  float weight = 0;     // of all their losses together, beside 1 of the last layer's; 0: none is computed
  bool rotate = false;  // a batch trains one of them after the other, with all the weight, instead of all
};

struct ObjectiveSettings {
  ExitLossSettings exits;
};

}  // namespace hone
