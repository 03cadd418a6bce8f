// What was written, compared with its checksums. Private to this room.
#pragma once

#include <string>

#include "io/model_file.h"

namespace hone {

// read_model_file() with a run; arrays are compared piece by piece and stay out of memory, since nobody will use them.
ModelFile read_back(const std::string& path);

}  // namespace hone
