// What was written, compared with its checksums. Private to this room.
#pragma once

#include <string>

#include "io/model_file.h"

namespace hone {

// read_model_file() with a run; each array leaves memory once it was compared, since nobody will use it.
ModelFile read_back(const std::string& path);

}  // namespace hone
