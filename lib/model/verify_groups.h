// Deferred weights of a model that are compared with its file's checksums together.
#pragma once

#include "model/store.h"

namespace hone {

// A checksum is computed by one thread, and products want their weights one after the other: all threads but one would
// wait. So the first use of a weight has its neighbours compared, too, those that are wanted next, by all threads: whole
// layers, until none would wait for another. Weights of experts and encoders stay alone, as not every call uses them,
// and all do in a part of a model.
//
// For who computes with a model that was loaded with ReadOptions::defer; before its first use. Who goes through it
// weight by weight, letting each go, wants no more than one in memory.
void verify_in_groups(Model& model);

}  // namespace hone
